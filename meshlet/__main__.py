"""`python -m meshlet` is `meshlet`."""

from meshlet.cli.main import main

main(prog_name="meshlet")
