"""`python -m pipeline.methods`: the table of methods."""

from rich.console import Console
from rich.table import Table

from bundle.command_line import run_command
from pipeline.methods import method_class, method_names


def main() -> None:
    """Prints name, paper, what is reconstructed, and what a training step costs."""
    table = Table("name", "title", "paper", "passes per step (forward, backward)", "guide")
    for name in method_names():
        method = method_class(name)
        table.add_row(
            name, method.title, method.paper, "{} , {}".format(*method.passes), "yes" if method.needs_guide else ""
        )
    Console().print(table)


if __name__ == "__main__":
    run_command(main)
