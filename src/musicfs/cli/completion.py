"""`musicfs completion`: what a shell needs to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from musicfs.errors import UsageError


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands and options.

    \b
    Put one of these where your shell begins:
      eval "$(musicfs completion bash)"          in ~/.bashrc
      eval "$(musicfs completion zsh)"           in ~/.zshrc
      musicfs completion fish | source           in ~/.config/fish/config.fish
    """
    made = get_completion_class(shell)
    if made is None:
        raise UsageError(f"There is no completion for {shell}.")
    click.echo(made(context.find_root().command, {}, "musicfs", "_MUSICFS_COMPLETE").source())
