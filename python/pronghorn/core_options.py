"""The core's options as attributes of Config. core_options.pyi, which tools/gen_limits.py writes,
says the same to type checkers."""

import dataclasses

from .options import Options, core_fields

CoreOptions = dataclasses.make_dataclass(
    "CoreOptions", core_fields(), bases=(Options,), slots=True, kw_only=True
)
