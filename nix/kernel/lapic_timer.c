// SPDX-License-Identifier: GPL-2.0
/*
 * lapic_timer_khz=N on the command line: the local APIC timer's frequency before its divider, known to whoever starts the
 * VM. The kernel measures it otherwise, for a tenth of a second in which the guest does nothing else. build.sh adds this
 * file to arch/x86/kernel. A processor with a TSC deadline timer uses that and asks for no frequency.
 */
#include <linux/init.h>
#include <linux/kernel.h>
#include <asm/apic.h>

static int __init set_lapic_timer_khz(char *text)
{
	unsigned int khz;
	int err = kstrtouint(text, 0, &khz);

	if (err)
		return err;
	if (khz < 1000 || khz > 4000000)
		return -EINVAL;
	lapic_timer_period = khz / HZ * 1000; /* cycles in a jiffy */
	return 0;
}
early_param("lapic_timer_khz", set_lapic_timer_khz);
