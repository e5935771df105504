"""A Key Broker Service for a lab and a small site: keys of encrypted models, released to verified evidence."""
