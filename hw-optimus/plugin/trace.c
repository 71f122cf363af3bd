/*
 * Trace events of the plugin: -trace 'vfio_optimus_*'
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu.h"
#include "trace.h"

static uint16_t on[4];

#define EVENT(event, text) \
    [event] = { .vcpu_id = TRACE_VCPU_EVENT_NONE, .name = (text), \
                .sstate = true, .dstate = &on[event] }

static TraceEvent events[] = {
    EVENT(OPTIMUS_EVENT_ROMFILE, "vfio_optimus_romfile"),
    EVENT(OPTIMUS_EVENT_SUBSYSTEM_ID, "vfio_optimus_subsystem_id"),
    EVENT(OPTIMUS_EVENT_WINDOW, "vfio_optimus_window"),
    EVENT(OPTIMUS_EVENT_BUILD_AML, "vfio_optimus_build_aml"),
};

G_STATIC_ASSERT(ARRAY_SIZE(on) == ARRAY_SIZE(events));

void optimus_trace_register(void)
{
    static TraceEvent *group[ARRAY_SIZE(events) + 1];
    /* An event that all versions have, and that is off */
    const char *known = "memory_region_ops_read";
    const TraceEvent *event = trace_event_name(known);

    if (!event || strcmp(event->name, known) || !event->sstate ||
        !event->dstate || *event->dstate) {
        return;
    }
    for (unsigned int i = 0; i < ARRAY_SIZE(events); i++) {
        group[i] = &events[i];
    }
    trace_event_register_group(group);
}

void optimus_trace(OptimusEvent event, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    if (!on[event]) {
        return;
    }
    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    qemu_log("%s %s\n", events[event].name, text);
}
