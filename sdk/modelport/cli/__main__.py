"""`python -m modelport.cli`: how a client starts the background server with its own Python."""

from modelport.cli import main

main()
