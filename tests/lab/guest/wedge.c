// SPDX-License-Identifier: GPL-2.0
/*
 * A PCI driver whose remove callback waits uninterruptibly: what a wedged GPU does to the process that unbinds it.
 *
 * It has no device table: a device comes to it by driver_override alone. The wait ends when 0 is written to
 * /sys/module/wedge/parameters/hold. With refuse=1 its probe fails, as a device does that cannot be given back.
 */
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/wait.h>

static bool hold = true;
static bool refuse;
static DECLARE_WAIT_QUEUE_HEAD(released);

static int set_hold(const char *value, const struct kernel_param *parameter)
{
	int error = param_set_bool(value, parameter);

	wake_up_all(&released);
	return error;
}

static const struct kernel_param_ops hold_ops = { .set = set_hold, .get = param_get_bool };

module_param_cb(hold, &hold_ops, &hold, 0644);
module_param(refuse, bool, 0644);

static int wedge_probe(struct pci_dev *device, const struct pci_device_id *id)
{
	return refuse ? -EIO : 0;
}

static void wedge_remove(struct pci_dev *device)
{
	wait_event(released, !READ_ONCE(hold));
}

static struct pci_driver wedge = { .name = "wedge", .probe = wedge_probe, .remove = wedge_remove };

module_pci_driver(wedge);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("vmtool's lab: an unbind that hangs");
