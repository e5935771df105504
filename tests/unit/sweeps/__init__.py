"""Plans that a kill ends at every point; see `tests.unit.sweeps.engine`."""
