/*
 * optimus-vbios: get, read and mend a video BIOS
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef OPTIMUS_VBIOS_H
#define OPTIMUS_VBIOS_H

#include "../core/optimus-judge.h"
#include <string.h>

/* Exit codes. */
#define EXIT_GOOD  0
#define EXIT_BAD   1    /* not usable, not found, refused, failed */
#define EXIT_USAGE 2       /* a code of GError: the status is EXIT_BAD */

/* A command, and what its --help says */
typedef struct Command {
    const char *name;
    const char *arguments;      /* "IN OUT" */
    const char *summary;
    unsigned int count;         /* of the arguments */
    const GOptionEntry *options;
    /*
     * Returns whether what was asked for is usable, found or written.  Sets
     * @error where it could not be done.
     */
    bool (*run)(char **arguments, GError **error);
} Command;

extern const Command info_command, trim_command, extract_command, dump_command,
    ssdt_command;

/* The name of the program, which begins what it complains of */
extern const char *const program;

/* terminal.c */

/*
 * Set @error, whose code is the program's exit code, to a sentence without a
 * full stop; always false.  After a signal nobody reads it.
 */
bool fail(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* The same where the command line is to blame. */
bool fail_usage(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Say on stdout, in one line, what was found or done. */
void say(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* Say on stderr, in one line, what is wrong. */
void complain(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* From here on SIGINT and the like end the program only after cleaning up. */
void catch_signals(void);

/* Whether such a signal has come: clean up and return to main(). */
bool is_interrupted(void);

/* Whether none has come. */
bool check_signal(GError **error);

/*
 * At the end of the program: die of the signal that has come, if one has, or say
 * what @error is, if there is one.  Returns whether there is none.
 */
bool finish(const GError *error);

/*
 * Whether a terminal shows @c, and nothing else than it: file names may have
 * control characters, and others that turn round the direction of the text.
 */
bool is_printable(gunichar c);

/* @text with what is not printable as \xNN */
char *printable(const char *text);

/*
 * Show how far the work is, if stderr is a terminal and it takes long.  A
 * @total of 0 stands for an unknown one.
 */
void show_progress(const char *work, uint64_t done, uint64_t total);
void end_progress(void);

/* file.c */

typedef struct InputFile {
    const char *path;
    const uint8_t *data;
    size_t size;
} InputFile;

/* Map the file, of up to 4 GiB, into memory. */
bool map_input(InputFile *file, const char *path, GError **error);
void unmap_input(InputFile *file);

/* Let the bytes be changed, in memory only. */
bool make_writable(const InputFile *file, GError **error);

/* Whether write_output() may write @path. */
bool check_output(const char *path, bool force, GError **error);

/* Write a file: all of it, or nothing. */
bool write_output(const char *path, bool force, const uint8_t *data,
                  size_t size, GError **error);

/* The bytes of the file @name in @dir, up to 16 MiB. */
GByteArray *read_file(const char *dir, const char *name, GError **error);

/* pci.c */

typedef struct PCIName {
    uint16_t vendor;
    uint16_t device;
} PCIName;

/* What is there of the device 0000:01:00.0 has that name here. */
#define PCI_SYSFS "/sys/bus/pci/devices"

/* "01:00.0" as "0000:01:00.0", to be freed, or NULL if it is no address. */
char *full_bdf(const char *text);

/* "10de:139b" */
bool parse_pci_name(const char *text, PCIName *name);

/*
 * The sysfs directory of the card at "01:00.0" or "0000:01:00.0", to be freed,
 * and its name.
 */
char *find_card(const char *bdf, PCIName *name, GError **error);

/* One of the IDs in the card's sysfs directory; false if there is none. */
bool read_pci_id(const char *dir, const char *file, uint16_t *id);

/*
 * The subsystem IDs that the card had when the kernel found it; false if it knows
 * none: 0 and 0xffff are no IDs.
 */
bool read_subsystem(const char *dir, PCIName *ids);

/* Whether the card is of a generation that has a flash of its own as a rule. */
bool has_own_flash(PCIName name);

/* chain.c */

typedef struct Chain {
    size_t offset;
    size_t length;
    bool again;                 /* the same as one before it in the file */
    GArray *images;             /* of OptimusImage */
} Chain;

/*
 * Find the next complete chain of images, go on after it, and show how far that
 * is if @progress.  Returns false if there is none, or after a signal.
 */
bool scan_next(OptimusScan *scan, Chain *chain, bool progress);

/*
 * All chains in the file: the one that it starts with, if *@why_not is NULL,
 * and those further in.  *@cut_off is set to how many of these are not complete.
 */
GArray *find_chains(const InputFile *file, char **why_not,
                    unsigned int *cut_off);

/* The SHA-256 of the chain, to be freed. */
char *chain_hash(const Chain *chain, const uint8_t *rom);

/* Where the chain ends */
size_t chain_end(const Chain *chain);

/* The chain at @offset, or NULL in @chain->images with @why set. */
bool chain_at(const uint8_t *rom, size_t size, size_t offset, Chain *chain,
              char **why);
void chain_free(Chain *chain);

const Chain *chain_of(const GArray *chains, unsigned int index);
const OptimusImage *chain_image(const Chain *chain, unsigned int index);
bool chain_is_for(const Chain *chain, const uint8_t *rom, PCIName name);

/* The x86 image, or the first one if there is none. */
const OptimusImage *chain_main_image(const Chain *chain);

/* The card that it is for */
PCIName chain_card(const Chain *chain);

/*
 * What drivers will do with the chain, see optimus_rom_judge(), with all
 * remarks in one string, which is empty if there is none.
 */
OptimusVerdict chain_judge(const Chain *chain, const uint8_t *rom, PCIName card,
                           char **remarks);

/* romfile.c */

/* What a file is, and whether it is usable as romfile */
typedef struct Judgement {
    GArray *chains;             /* of Chain: the one that counts, and others */
    bool starts_as_rom;
    char *broken;               /* why there is none at offset 0, or NULL */
    OptimusVerdict verdict;     /* on the first chain, if there is one */
    char *remarks;
    bool usable;
    char *sentence;             /* says all that */
} Judgement;

/*
 * Judge @file, for the card at @bdf if that is not NULL.  Ends early after a
 * signal.
 */
Judgement judge_romfile(const InputFile *file, const char *bdf, PCIName card);
void judgement_clear(Judgement *judgement);

/* How many of the chains come before those that are the same again. */
unsigned int chains_worth(const GArray *chains);

/* Whether the device has room for all these, with what is in between. */
bool all_fits(const GArray *chains);

/*
 * Parse the chain that @rom starts with, refuse one that is of no use to any
 * driver of @card (0:0 if that is not known), and warn of what some dislike.
 */
bool accept_rom(const uint8_t *rom, size_t size, PCIName card, Chain *chain,
                GError **error);

/* Whether the file starts with the header of a flash chip. */
bool starts_with_nvgi(const InputFile *file);

/* image.c */

/* "x86", "EFI", ... */
const char *image_type(const OptimusImage *image);

/* "NVIDIA 10de:139b" */
char *image_card(const OptimusImage *image);

/* The version of an NVIDIA BIOS, to be freed, or NULL. */
char *image_version(const uint8_t *rom, const OptimusImage *image);

/* The name of its board, or its date, to be freed, or NULL. */
char *image_board(const uint8_t *rom, const OptimusImage *image);
char *image_date(const uint8_t *rom, const OptimusImage *image);

/* The subsystem IDs of the laptop or board that it was made for, if any. */
bool image_subsystem(const uint8_t *rom, const OptimusImage *image,
                     PCIName *name);

/* Whether the image has a checksum, and the wrong one. */
bool has_bad_checksum(const uint8_t *rom, const OptimusImage *image);

/* container.c */

/*
 * What the file is if a video BIOS may be packed in it, and how to unpack it,
 * to be freed, or NULL.
 */
char *container_advice(const InputFile *file);

/*
 * Inflate the next zlib stream of those that Dell's updates consist of, at or
 * after *@at, which goes on after it.  *@left is how many bytes may still be
 * inflated.  Returns NULL if there is no further one, or *@left is 0.
 */
GByteArray *next_dell_section(const uint8_t *data, size_t size, size_t *at,
                              size_t *left);

/* Whether it is an export of Windows' registry (.reg). */
bool is_registry(const uint8_t *data, size_t size);

/*
 * The next binary value in such an export that could be a ROM, at or after
 * *@at, which goes on after it, or NULL.
 */
GByteArray *next_registry_value(const uint8_t *data, size_t size, size_t *at);

/* unpack.c */

/* Whether it is a UEFI capsule or has a UEFI firmware volume in it. */
bool is_uefi(const InputFile *file);

/*
 * Unpack the compressed parts of @file below @dir with UEFIExtract.  Returns
 * the directory to search, for remove_tree().
 */
char *unpack_uefi(const InputFile *file, const char *dir, GError **error);

/* command-line.c */

/* A card that is assigned to a guest. */
typedef struct GuestCard {
    char *place;                /* in the guest: "1c.0/00.0", or NULL */
    char *why;                  /* there is none, if so */
    char *host;                 /* "0000:01:00.0", or NULL if unknown */
    char *id;                   /* or NULL */
    char *driver;
    bool has_ids;               /* of its subsystem are set */
} GuestCard;

typedef struct Guest {
    char *emulator;             /* or NULL */
    bool is_q35;
    GSList *ids;                /* of all devices */
    GPtrArray *cards;           /* of GuestCard */
} Guest;

/* "1c.0/00.0" as an ACPI path, to be freed, or NULL if it is no place. */
char *place_to_acpi(const char *place);

/*
 * What QEMU's command line @text, quoted as for a shell, says of the guest; @path
 * is what it was read from.
 */
Guest *parse_command_line(const char *text, const char *path, GError **error);
void free_guest(Guest *guest);

/* tables.c */

/* What a guest gets of a video BIOS, in files of a directory. */
typedef struct GuestFiles {
    const InputFile *rom;
    const char *out;            /* the directory, absolute */
    const char *scope;          /* of tables, an ACPI path; NULL: the ROM itself */
    bool battery;
} GuestFiles;

/* The names of the files, of which those that end in .aml are ACPI tables */
GPtrArray *guest_file_names(const GuestFiles *files);

/* Whether they can be made. */
bool check_guest_files(const GuestFiles *files, GError **error);

/* Write all of them or none; they may be there already. */
bool write_guest_files(const GuestFiles *files, GError **error);

/*
 * Whether @path needs no quotes anywhere: QEMU, shells, XML and Proxmox each take
 * other characters for theirs.
 */
bool is_plain(const char *path);

/* ssdt-asl.c */

/* The number of tables that a ROM of @size bytes is in. */
unsigned int rom_tables(size_t size);

/* The source of the table with part @number of the ROM, for the node @scope. */
char *rom_table_asl(const InputFile *rom, const char *scope,
                    unsigned int number);

/* The source of the table with the method for a ROM of @size bytes. */
char *method_table_asl(unsigned int size, const char *scope);

/* run.c */

/*
 * Run the program @argv[0] of PATH in @dir until it ends or a signal comes.
 * @work names it while it takes long.  Returns whether it ended well.
 */
bool run_tool(const char *dir, char **argv, const char *work, GError **error);

/*
 * Run the program @argv[0] of PATH, with @input, or NULL, on its standard input,
 * for up to @seconds if they are not 0.
 *
 * Returns: what it wrote to its standard output, to be freed.  *@status is its
 * exit status, or -1 if there is none; @error is set if that is not 0, to what the
 * program wrote to its standard error, in one line.
 */
char *run_program(char **argv, const char *input, unsigned int seconds,
                  int *status, GError **error);

/* A file in memory with @text, or an empty one for NULL; -1 with errno set */
int text_file(const char *text);

/* Remove @dir with all that is in it, and free the name. */
void remove_tree(char *dir);

#endif
