/*
 * optimus-attach: a guest of Proxmox'
 *
 * What was given is recorded beside the guest's files, in "given": of hostpciN
 * whether it was made, or else what was appended to it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "attach.h"
#include <stdio.h>

#define CARDS 16                /* hostpci0 to hostpci15 */

typedef struct Guest100 {
    const char *id;             /* "100" */
    char **config;              /* lines: "hostpci0: 01:00,pcie=1" */
    char *given_path;
    GKeyFile *given;            /* groups are called as hostpciN is */
} Guest100;

/* What Proxmox says */

/* The rest of the line that begins with @start, or NULL */
static const char *rest_of(char **lines, const char *start)
{
    for (; *lines; lines++) {
        if (g_str_has_prefix(*lines, start)) {
            return *lines + strlen(start);
        }
    }
    return NULL;
}

static const char *setting(const Guest100 *g, const char *key)
{
    g_autofree char *start = g_strconcat(key, ": ", NULL);

    return rest_of(g->config, start);
}

static char **ask_lines(const char *what, const char *command, const char *id,
                        GError **error)
{
    g_autofree char *text = ask(error, what, NULL, "qm", command, id, NULL);

    return text ? g_strsplit(text, "\n", -1) : NULL;
}

static char **ask_config(const char *id, GError **error)
{
    return ask_lines("Proxmox does not give the guest", "config", id, error);
}

static void free_guest100(Guest100 *g)
{
    g_strfreev(g->config);
    g_key_file_free(g->given);
    g_free(g->given_path);
}

static bool read_guest100(Guest100 *g, const char *id, GError **error)
{
    g_autofree char *dir = guest_dir(id);

    *g = (Guest100) {
        .id = id,
        .config = ask_config(id, error),
        .given_path = g_build_filename(dir, GIVEN, NULL),
        .given = g_key_file_new(),
    };
    if (!g->config) {
        free_guest100(g);
        return false;
    }
    g_key_file_load_from_file(g->given, g->given_path, 0, NULL);
    return true;
}

static Guest *show_command(const char *id, GError **error)
{
    g_autofree char *line = ask(error, "Proxmox makes no command line of the "
                                "guest", NULL, "qm", "showcmd", id, NULL);

    return line ? parse_command_line(line, "qm showcmd", error) : NULL;
}

static bool is_running(const char *id, bool *yes, GError **error)
{
    g_autofree char *status = ask(error, "Proxmox does not tell the guest's "
                                  "state", NULL, "qm", "status", id, NULL);

    *yes = status && strstr(status, "running");
    return status;
}

/* qm showcmd leaves out what waits for the next start of the guest. */
static bool check_pending(const char *id, GError **error)
{
    static const char *const keys[] = { "hostpci", "machine", "args" };
    g_auto(GStrv) lines = ask_lines("Proxmox does not tell what is pending",
                                    "pending", id, error);

    for (char **line = lines; lines && *line; line++) {
        const bool waits = g_str_has_prefix(*line, "new ") ||
                           g_str_has_prefix(*line, "del ");

        for (size_t i = 0; waits && i < G_N_ELEMENTS(keys); i++) {
            if (g_str_has_prefix(*line + strlen("new "), keys[i])) {
                return fail(error, "the guest %s runs without a change that "
                            "was made to it ('%s'), and only when it is off "
                            "Proxmox tells where the card will be: shut it "
                            "down, then run this again", id, *line);
            }
        }
    }
    return lines;
}

/* Does the guest @id have no device of @a?  One without a command line cannot
 * start, either. */
static bool check_other(const Attach *a, const char *id, GError **error)
{
    Guest *guest = show_command(id, NULL);
    bool good = true;

    for (unsigned int i = 0; guest && good && i < a->hosts->len; i++) {
        const char *host = g_ptr_array_index(a->hosts, i);

        good = !find_card_of(guest, host) || fail_taken(error, id, host);
    }
    free_guest(guest);
    return good;
}

static bool check_others(const Attach *a, const char *id, GError **error)
{
    g_autofree char *list = ask(error, "Proxmox does not list its guests",
                                NULL, "qm", "list", NULL);
    g_auto(GStrv) lines = g_strsplit(list ?: "", "\n", -1);
    bool good = list;

    for (char **line = lines; good && !a->force && *line; line++) {
        const char *start = g_strstrip(*line);
        g_autofree char *other = g_strndup(start,
                                           strspn(start, "0123456789"));

        if (*other && strcmp(other, id)) {
            good = check_other(a, other, error);
        }
    }
    return good;
}

/* What it is told */

/* "qm set 100 ARGUMENT...", as one types it */
static char *command_text(GPtrArray *argv)
{
    GString *text = g_string_new("   ");

    for (unsigned int i = 0; i < argv->len && argv->pdata[i]; i++) {
        g_autofree char *quoted = is_plain(argv->pdata[i]) ?
            g_strdup(argv->pdata[i]) : g_shell_quote(argv->pdata[i]);

        g_string_append_printf(text, " %s", quoted);
    }
    return g_string_free(text, false);
}

static GPtrArray *new_command(const char *id)
{
    GPtrArray *argv = g_ptr_array_new_with_free_func(g_free);

    g_ptr_array_add(argv, g_strdup("qm"));
    g_ptr_array_add(argv, g_strdup("set"));
    g_ptr_array_add(argv, g_strdup(id));
    return argv;
}

static void add_setting(GPtrArray *argv, const char *key, const char *value)
{
    g_ptr_array_add(argv, g_strconcat("--", key, NULL));
    g_ptr_array_add(argv, g_strdup(value));
}

static bool has_settings(const GPtrArray *argv)
{
    return argv->len > 3;
}

static bool run_command(GPtrArray *argv, GError **error)
{
    int status;

    g_ptr_array_add(argv, NULL);
    g_free(run_program((char **)argv->pdata, NULL, 0, &status, error));
    if (status) {
        g_prefix_error(error, "Proxmox does not take the change: qm: ");
    }
    return !status;
}

static bool write_given(const Guest100 *g, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(g->given_path);
    gsize size;
    g_autofree char *text = g_key_file_to_data(g->given, &size, NULL);

    return make_dir(dir, error) &&
           write_output(g->given_path, true, (const uint8_t *)text, size,
                        error);
}

/* Giving */

/* "sub-vendor-id=0x17aa", ... but for those that are in the list @value */
static char *missing_ids(const Attach *a, const char *value)
{
    static const char *const names[] = { "sub-vendor-id", "sub-device-id" };
    const uint16_t values[] = { a->ids.vendor, a->ids.device };
    GString *text = g_string_new(NULL);

    for (size_t i = 0; a->has_ids && i < G_N_ELEMENTS(names); i++) {
        g_autofree char *key = g_strdup_printf(",%s=", names[i]);

        if (!strstr(value, key)) {
            g_string_append_printf(text, "%s0x%04x", key, values[i]);
        }
    }
    return g_string_free(text, false);
}

/* The lowest hostpciN that is free, to be freed, or NULL */
static char *free_key(const Guest100 *g, GError **error)
{
    for (unsigned int i = 0; i < CARDS; i++) {
        g_autofree char *key = g_strdup_printf("hostpci%u", i);

        if (!setting(g, key)) {
            return g_steal_pointer(&key);
        }
    }
    fail(error, "the guest %s has %u devices of the host, and Proxmox gives it "
         "no more", g->id, CARDS);
    return NULL;
}

static char *new_value(const Attach *a, bool q35)
{
    g_autofree char *ids = missing_ids(a, "");
    GString *value = g_string_new(NULL);

    for (unsigned int i = 0; i < a->hosts->len; i++) {
        g_string_append_printf(value, "%s%s", i ? ";" : "",
                               (char *)g_ptr_array_index(a->hosts, i));
    }
    g_string_append_printf(value, "%s%s", q35 ? ",pcie=1" : "", ids);
    return g_string_free(value, false);
}

static bool assign(Attach *a, Guest100 *g, bool q35, GError **error)
{
    g_autoptr(GPtrArray) command = new_command(g->id);
    g_autofree char *key = NULL, *value = NULL, *text = NULL;
    bool runs;

    if (!is_running(g->id, &runs, error)) {
        return false;
    }
    if (runs) {
        return fail(error, "the guest %s runs, and only when it is off Proxmox "
                    "tells where the card will be: shut it down, then run this "
                    "again", g->id);
    }
    key = free_key(g, error);
    if (!key) {
        return false;
    }
    value = new_value(a, q35);
    g_key_file_set_boolean(g->given, key, "made", true);
    add_setting(command, key, value);
    text = command_text(command);
    say("First the card itself; its _ROM follows from where Proxmox puts it:");
    return confirm(a, text, error) && write_given(g, error) &&
           run_command(command, error);
}

/* Arguments without those of ours */
static char *other_args(const Guest100 *g)
{
    g_autofree char *dir = guest_dir(g->id);
    g_autofree char *escaped = g_regex_escape_string(dir, -1);
    g_autofree char *pattern = g_strdup_printf(" *-acpitable file=%s/\\S+",
                                               escaped);
    g_autoptr(GRegex) ours = g_regex_new(pattern, 0, 0, NULL);

    return g_strstrip(g_regex_replace_literal(ours, setting(g, "args") ?: "",
                                              -1, 0, "", 0, NULL));
}

static char *new_args(const Attach *a, const Guest100 *g)
{
    g_autoptr(GPtrArray) names = guest_file_names(&a->files);
    g_autofree char *others = other_args(g);
    GString *args = g_string_new(others);

    for (unsigned int i = 0; i < names->len; i++) {
        g_string_append_printf(args, "%s-acpitable file=%s/%s",
                               args->len ? " " : "", a->files.out,
                               (char *)g_ptr_array_index(names, i));
    }
    return g_string_free(args, false);
}

static void add_ids(const Attach *a, Guest100 *g, GPtrArray *command)
{
    /* hostpci0, or of several functions hostpci0.0 */
    const char *id = a->card->id ?: "";
    g_autofree char *key = g_strndup(id, strcspn(id, "."));
    const char *old = setting(g, key);
    g_autofree char *ids = missing_ids(a, old ?: "");
    g_autofree char *new = g_strconcat(old ?: "", ids, NULL);

    if (!a->card->has_ids && old && *ids) {
        add_setting(command, key, new);
        g_key_file_set_string(g->given, key, "appended", ids);
    }
}

static bool give(Attach *a, Guest100 *g, GError **error)
{
    g_autoptr(GPtrArray) command = new_command(g->id);
    g_autofree char *args = NULL, *text = NULL;
    bool runs;

    if (!plan_files(a, g->id, error) || !is_running(g->id, &runs, error)) {
        return false;
    }
    args = new_args(a, g);
    add_ids(a, g, command);
    if (g_strcmp0(args, setting(g, "args"))) {
        add_setting(command, "args", args);
    }
    if (!has_settings(command)) {
        say("The guest '%s' is as it should be.", g->id);
        return a->dry_run || make_files(a, error);
    }
    text = command_text(command);
    if (!confirm(a, text, error) || !write_given(g, error) ||
        !make_files(a, error) || !run_command(command, error)) {
        return false;
    }
    remove_files(a, g->id, true);
    say_done(a, g->id, runs);
    return true;
}

static bool attach_to(Attach *a, Guest100 *g, GError **error)
{
    Guest *guest = show_command(g->id, error);
    bool good;

    if (!guest || find_card_of(guest, card_of(a))) {
        return find_place(a, guest, "Proxmox", error) && give(a, g, error);
    }
    good = assign(a, g, guest->is_q35, error);
    free_guest(guest);
    if (!good) {
        return false;
    }
    g_strfreev(g->config);
    g->config = ask_config(g->id, error);
    return g->config && find_place(a, show_command(g->id, error), "Proxmox",
                                   error) && give(a, g, error);
}

bool proxmox_attach(Attach *a, GError **error)
{
    Guest100 g;
    bool good;

    if (!read_guest100(&g, a->guest, error)) {
        return false;
    }
    say("Proxmox' QEMU exports nothing that a plugin could use: the guest gets "
        "ACPI tables, which are for one place of the card.");
    good = check_pending(g.id, error) && check_others(a, g.id, error) &&
           attach_to(a, &g, error);
    free_guest100(&g);
    return good;
}

/* Taking away */

/* Of one hostpciN; what is to be deleted is appended to @deleted. */
static void undo_hostpci(const Guest100 *g, const char *key, GPtrArray *command,
                         GString *deleted)
{
    const char *value = setting(g, key);
    g_autofree char *ids = g_key_file_get_string(g->given, key, "appended",
                                                 NULL);
    const char *at = value && ids ? strstr(value, ids) : NULL;

    if (value && g_key_file_get_boolean(g->given, key, "made", NULL)) {
        g_string_append_printf(deleted, "%s%s", deleted->len ? "," : "", key);
    } else if (at) {
        g_autofree char *before = g_strndup(value, at - value);
        g_autofree char *old = g_strconcat(before, at + strlen(ids), NULL);

        add_setting(command, key, old);
    }
}

/* What takes all away that is there, or no more than its beginning */
static GPtrArray *undo_command(const Guest100 *g)
{
    GPtrArray *command = new_command(g->id);
    g_autoptr(GString) deleted = g_string_new(NULL);
    g_autofree char *args = other_args(g);
    g_auto(GStrv) keys = g_key_file_get_groups(g->given, NULL);
    const char *old = setting(g, "args") ?: "";

    for (char **key = keys; *key; key++) {
        undo_hostpci(g, *key, command, deleted);
    }
    if (strcmp(args, old) && *args) {
        add_setting(command, "args", args);
    } else if (strcmp(args, old)) {
        g_string_append(deleted, deleted->len ? ",args" : "args");
    }
    if (deleted->len) {
        add_setting(command, "delete", deleted->str);
    }
    return command;
}

static bool undo(Attach *a, Guest100 *g, GError **error)
{
    g_autoptr(GPtrArray) command = undo_command(g);
    g_autofree char *text = command_text(command);
    bool runs;

    if (!is_running(g->id, &runs, error)) {
        return false;
    }
    if (has_settings(command) &&
        (!confirm(a, text, error) || !run_command(command, error))) {
        return false;
    }
    if ((a->dry_run || !remove_files(a, g->id, false)) &&
        !has_settings(command)) {
        return fail(error, "the guest '%s' has nothing of optimus-attach's",
                    g->id);
    }
    say_done(a, g->id, runs);
    return true;
}

bool proxmox_undo(Attach *a, GError **error)
{
    Guest100 g;
    bool good;

    if (!read_guest100(&g, a->guest, error)) {
        return false;
    }
    good = undo(a, &g, error);
    free_guest100(&g);
    return good;
}
