/*
 * Trace events of the plugin: -trace 'vfio_optimus_*'
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VFIO_OPTIMUS_TRACE_H
#define VFIO_OPTIMUS_TRACE_H

typedef enum OptimusEvent {
    OPTIMUS_EVENT_ROMFILE,
    OPTIMUS_EVENT_SUBSYSTEM_ID,
    OPTIMUS_EVENT_WINDOW,
    OPTIMUS_EVENT_BUILD_AML,
} OptimusEvent;

/**
 * optimus_trace_register: make the events known to this QEMU, unless its own
 * look otherwise: the device does without them
 */
void optimus_trace_register(void);

/**
 * optimus_trace: write a line to QEMU's log if @event is on, with its name in
 * front, as QEMU's own events do
 */
void optimus_trace(OptimusEvent event, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

#endif
