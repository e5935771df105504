"""A machine to break: a QEMU guest with a real kernel, an IOMMU, real vfio-pci and fake NVIDIA GPUs.

cache.py     parts that are slow to make, kept and verified      parts.py, drivers.py, images.py  what they are
mirror.py    where Debian's packages come from, asked for when they are needed
topology.py  which devices a machine has, as data                qemu.py, vfu.py  QEMU and the devices it is served
launchhost.py  a machine that launches guests of its own, and what they need
channel.py   commands to the agent in the guest (guest/agent.py) vm.py  LabVm, what a test holds
"""
