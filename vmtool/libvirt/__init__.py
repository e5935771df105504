"""Domains of libvirt: what a spec may want of them, and their description as XML. Nothing here touches the machine."""
