"""`python -m bench`: the same as `dhtmeta bench`."""

import sys

from dhtmeta.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "bench")
    main()
