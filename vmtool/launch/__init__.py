"""From a spec to a running, answering instance: the plans, and the look at what really runs."""
