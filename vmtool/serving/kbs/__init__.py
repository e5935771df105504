"""The Key Broker Service's protocol 0.4.0 (Confidential Containers), seen from the guest: a key for evidence."""
