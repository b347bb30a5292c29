"""A made-up survey release with the true names, formats and relations of a real one."""
