"""The core in software: what it computes (`machine`), how long it takes (`cycles`), what it costs.

Both step through the compiled program as `docs/core.md` says; the loops are in numba (`*_kernel`).
"""
