"""NVIDIA's GPUs and NVSwitches: SPDM measurements that the device signs, and reference manifests (RIM) for them."""
