"""`python -m modelport.as_azure`: see `running`."""

import sys

from modelport.as_azure.running import main

if __name__ == "__main__":
    main(sys.argv[1:])
