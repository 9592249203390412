"""`python -m deepgen.controller.cli`, the deepgen command where no script of that name is on the path."""

import sys

from . import main

sys.exit(main())
