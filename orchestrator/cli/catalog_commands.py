"""The commands about prices."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.options import JsonOption, PriceOption, SizeOption
from orchestrator.home import Home

catalog_app = typer.Typer(help="The table of prices.", no_args_is_help=True, rich_markup_mode=None)


def offers(
    gpu: Annotated[str | None, typer.Option(help="Only this GPU, such as A100 or 'RTX 4090'.")] = None,
    max_price: PriceOption = None,
    min_vram: SizeOption = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many lines, cheapest first.")] = 40,
    as_json: JsonOption = False,
) -> None:
    """List machines with GPUs and their prices, cheapest first; offline, from the price table.

    Example: gpujob offers --gpu A100 --max-price 2
    """
    from backends.units import parse_size, parse_usd
    from orchestrator.cli.prices import Wanted, show_offers

    wanted = Wanted(
        gpu, parse_usd(max_price) if max_price else None, parse_size(min_vram) if min_vram else None, provider
    )
    raise typer.Exit(show_offers(Home.locate(), wanted, limit, as_json=as_json))


@catalog_app.command()
def age(as_json: JsonOption = False) -> None:
    """Which price table is in force, and how old each provider's prices are.

    Example: gpujob catalog age
    """
    from orchestrator.cli.prices import show_age

    raise typer.Exit(show_age(Home.locate(), as_json=as_json))


@catalog_app.command()
def refresh(
    source: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="A CSV file or URL; catalog.url if left out.")
    ] = None,
) -> None:
    """Put a newer price table in force, once every row has been checked; yours replaces provider by provider.

    Example: gpujob catalog refresh prices.csv
    """
    from orchestrator.cli.prices import refresh as put_in_force

    raise typer.Exit(put_in_force(Home.locate().ensure(), source))
