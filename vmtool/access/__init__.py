"""Who may ask an instance: named tokens beside its key, kept on the host and given to the front."""
