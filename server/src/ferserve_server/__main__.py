"""`python -m ferserve_server` is `ferserve-server`."""

from ferserve_server.cli import main

if __name__ == "__main__":
    main()
