"""What every command of ``dk`` shares: its exit codes, its errors, its help in French. Nothing heavy is imported."""

from __future__ import annotations

from typing import Any

import click

OK, FAILED, USAGE, LATE, BUSY = 0, 1, 2, 3, 75


class Failure(click.ClickException):
    """An error for a person: its message, no trace."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = code

    def show(self, file: Any = None) -> None:
        click.secho(f"Erreur : {self.message}", fg="red", err=True)


class _French:
    """Click writes its own words in English; this is the one of them that every help page shows."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option:
            option.help = "Montrer cette aide."
        return option


class Command(_French, click.Command):
    pass


class Group(_French, click.Group):
    command_class = Command

    def invoke(self, ctx: click.Context) -> Any:
        from ingestion.declarations import DeclarationError
        from ingestion.paths import DamagedFile
        from ingestion.snapshots import SnapshotError

        try:
            return super().invoke(ctx)
        except (DamagedFile, DeclarationError, SnapshotError) as error:  # each says which file, and what to do
            raise Failure(str(error)) from error
