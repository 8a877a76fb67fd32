"""What is measured: one module per work, each with a class `Work`.

``Work(folder, **params)`` prepares everything that is not timed; ``measure()`` does the work once,
checks its result after the clock has stopped, and returns seconds (or bytes) by name. The same code
runs on both implementations through the public API; where that cannot be, the module says why.
"""
