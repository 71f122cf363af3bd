/*
 * optimus-attach: give a card and its video BIOS to a guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef OPTIMUS_ATTACH_H
#define OPTIMUS_ATTACH_H

#include "../vbios/vbios.h"

/* The record of what a guest of Proxmox' was given, beside its files */
#define GIVEN "given"

typedef struct Attach {
    const char *guest;          /* as the user calls it */
    gboolean undo, yes, dry_run, force, function;

    /* The card, and with @function what else is in its slot */
    GPtrArray *hosts;           /* "0000:01:00.0", ...; the card is the first */
    PCIName ids;                /* of its subsystem, if @has_ids */
    bool has_ids;

    /* The guest with the card in it, as find_place() has found it */
    Guest *with;
    const GuestCard *card;

    /* What the guest gets, as plan_files() sets it */
    InputFile rom;
    GuestFiles files;
    char *scope;
    bool plugin;
} Attach;

/* attach.c */

/* The host's name of the card */
const char *card_of(const Attach *a);

/* Show what is changed, and ask.  Whether to go on: no error with --dry-run */
bool confirm(const Attach *a, const char *changes, GError **error);

/* The directory of all files of the guest @key, to be freed */
char *guest_dir(const char *key);

/* The card at @host among those of a guest, or NULL */
const GuestCard *find_card_of(const Guest *guest, const char *host);

/*
 * Find the card in @guest, which it takes over, or NULL; @who has made its
 * command line.
 */
bool find_place(Attach *a, Guest *guest, const char *who, GError **error);

/*
 * Whether the guest's emulator can have the plugin, by a trial start: sets
 * @a->plugin, and says why.
 */
bool choose_way(Attach *a, GError **error);

/* Decide on the files for the guest @key, and where they are to be. */
bool plan_files(Attach *a, const char *key, GError **error);

/* Make a directory that everybody may look into. */
bool make_dir(const char *dir, GError **error);

/* Write the files. */
bool make_files(const Attach *a, GError **error);

/*
 * Remove those of the guest @key, but for a->files and GIVEN if @keep.  Returns
 * whether there were any.
 */
bool remove_files(const Attach *a, const char *key, bool keep);

/* That another guest, @name, has @host already; always false */
bool fail_taken(GError **error, const char *name, const char *host);

/*
 * Run a manager's program with arguments up to NULL, and @input.  Returns what
 * it wrote, to be freed; @what begins the error.
 */
char *ask(GError **error, const char *what, const char *input,
          const char *program, ...) G_GNUC_NULL_TERMINATED;

/* Say that all is done. */
void say_done(const Attach *a, const char *guest, bool runs);

/* libvirt.c and proxmox.c: do what @a says. */
bool libvirt_attach(Attach *a, GError **error);
bool libvirt_undo(Attach *a, GError **error);
bool proxmox_attach(Attach *a, GError **error);
bool proxmox_undo(Attach *a, GError **error);

#endif
