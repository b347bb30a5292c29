"""Reports on a mirror for people and scripts: status files, report, page, plan, notifications, metrics."""
