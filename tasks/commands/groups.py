"""Groups of commands: the sentences on a command that is missing or unknown."""

import click

from pipeline.near_names import did_you_mean

# More commands than these are left to the help.
_NAMED = 5


class MissingCommand(click.UsageError):
    """Command line that ends with the name of a group."""


class CommandGroup(click.Group):
    """Group whose command line needs a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options of the group. Raises MissingCommand for a command line without a word."""
        if all(word == "--" for word in args) and not ctx.resilient_parsing:
            raise MissingCommand(f"expected {self._choice(ctx)}, got none", ctx)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name. Raises click.UsageError for an unknown one."""
        name = args[0]
        is_option = name.startswith("-")
        if self.get_command(ctx, name) is None and not is_option and not ctx.resilient_parsing:
            meant = did_you_mean(name, self.list_commands(ctx))
            raise click.UsageError(f"expected {self._choice(ctx)}, got {name!r}.{meant}", ctx)
        return super().resolve_command(ctx, args)

    def _choice(self, ctx: click.Context) -> str:
        names = self.list_commands(ctx)
        return "a command" if len(names) > _NAMED else f"a command ({', '.join(names)})"
