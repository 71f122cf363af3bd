/*
 * optimus-attach: a guest of libvirt's
 *
 * What is added to a domain is recorded in it, in <metadata>:
 *
 *   <optimus:card xmlns:optimus="urn:vfio-optimus:attach" metadata="made">
 *     <optimus:hostdev host="0000:01:00.0" made="yes"/>
 *     <optimus:controller index="5"/>
 *     <optimus:arg option="-plugin" value="..."/>
 *     <optimus:property name="driver" value="vfio-optimus" was="..."/>
 *   </optimus:card>
 *
 * "made" is what was not there before.  Of a <hostdev> that was there it is
 * noted, instead, what it had: managed="no" and a copy of its <rom>.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "attach.h"
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdio.h>
#include <unistd.h>

#define QEMU "http://libvirt.org/schemas/domain/qemu/1.0"
#define OURS "urn:vfio-optimus:attach"

/* Names that begin so are the user's to choose. */
#define ALIAS "ua-optimus"

/* What virsh opens as its standard input, also where there is no /dev/stdin */
#define STDIN "/proc/self/fd/0"

typedef struct Domain {
    char *uuid;
    char *name;
    xmlDoc *doc;
} Domain;

/* XML: of a name with the namespace @href, or without one */

static bool is(const xmlNode *node, const char *href, const char *name)
{
    return node->type == XML_ELEMENT_NODE &&
           g_str_equal((const char *)node->name, name) &&
           !g_strcmp0(node->ns ? (const char *)node->ns->href : NULL, href);
}

/* The next one, from @node on */
static xmlNode *next(xmlNode *node, const char *href, const char *name)
{
    while (node && !is(node, href, name)) {
        node = node->next;
    }
    return node;
}

static xmlNode *child(xmlNode *parent, const char *href, const char *name)
{
    return parent ? next(parent->children, href, name) : NULL;
}

/* To be freed, or NULL */
static char *get(const xmlNode *node, const char *name)
{
    xmlChar *value = xmlGetProp(node, BAD_CAST name);
    char *copy = g_strdup((char *)value);

    xmlFree(value);
    return copy;
}

static bool has(const xmlNode *node, const char *name, const char *value)
{
    g_autofree char *found = node ? get(node, name) : NULL;

    return !g_strcmp0(found, value);
}

static void put(xmlNode *node, const char *name, const char *value)
{
    xmlSetProp(node, BAD_CAST name, BAD_CAST value);
}

/* An end of a line, and as many blanks as libvirt has at this depth */
static xmlNode *line_break(xmlNode *at, int depth)
{
    g_autoptr(GString) text = g_string_new("\n");

    while (depth--) {
        g_string_append(text, "  ");
    }
    return xmlNewDocText(at->doc, BAD_CAST text->str);
}

static void append(xmlNode *parent, xmlNode *node)
{
    int depth = 0;

    for (xmlNode *n = parent->parent; n && n->type == XML_ELEMENT_NODE;
         n = n->parent) {
        depth++;
    }
    if (!parent->last || !xmlNodeIsText(parent->last)) {
        xmlAddChild(parent, line_break(parent, depth));
    }
    xmlAddPrevSibling(parent->last, node);
    xmlAddPrevSibling(node, line_break(parent, depth + 1));
}

/* Where libvirt has it, so that a second run changes nothing */
static void insert(xmlNode *after, xmlNode *node)
{
    xmlNode *blank = after->prev && xmlIsBlankNode(after->prev) ?
        xmlDocCopyNode(after->prev, after->doc, 1) : NULL;

    xmlAddPrevSibling(after, node);
    if (blank) {
        xmlAddPrevSibling(after, blank);
    }
}

/* With attributes: names and values up to NULL */
static xmlNode *add(xmlNode *parent, const char *href, const char *name, ...)
{
    xmlNs *ns = href ? xmlSearchNsByHref(parent->doc, parent, BAD_CAST href) :
                       NULL;
    xmlNode *node = xmlNewDocNode(parent->doc, ns, BAD_CAST name, NULL);
    const char *attribute;
    va_list args;

    va_start(args, name);
    while ((attribute = va_arg(args, const char *))) {
        put(node, attribute, va_arg(args, const char *));
    }
    va_end(args);
    append(parent, node);
    return node;
}

static xmlNode *need(xmlNode *parent, const char *href, const char *name)
{
    return child(parent, href, name) ?: add(parent, href, name, NULL);
}

static void drop(xmlNode *node)
{
    if (node->prev && xmlIsBlankNode(node->prev)) {
        xmlNode *blank = node->prev;

        xmlUnlinkNode(blank);
        xmlFreeNode(blank);
    }
    xmlUnlinkNode(node);
    xmlFreeNode(node);
}

/* Returns the parent of what was dropped, or NULL. */
static xmlNode *drop_if_empty(xmlNode *node)
{
    xmlNode *parent;

    if (!node || xmlChildElementCount(node)) {
        return NULL;
    }
    parent = node->parent;
    drop(node);
    return parent;
}

static char *to_text(const Domain *d)
{
    xmlBuffer *buffer = xmlBufferCreate();
    char *text;

    xmlNodeDump(buffer, d->doc, xmlDocGetRootElement(d->doc), 0, 0);
    text = g_strconcat((const char *)xmlBufferContent(buffer), "\n", NULL);
    xmlBufferFree(buffer);
    return text;
}

/* Parts of a domain */

static xmlNode *root_of(const Domain *d)
{
    return xmlDocGetRootElement(d->doc);
}

static xmlNode *devices_of(const Domain *d)
{
    return child(root_of(d), NULL, "devices");
}

static xmlNode *mark_of(const Domain *d)
{
    return child(child(root_of(d), NULL, "metadata"), OURS, "card");
}

/* The host's name of an assigned device, to be freed, or NULL */
static char *host_of(xmlNode *hostdev)
{
    static const char *const names[] = { "domain", "bus", "slot", "function" };
    xmlNode *address = child(child(hostdev, NULL, "source"), NULL, "address");
    unsigned int values[G_N_ELEMENTS(names)];

    if (!address || !has(hostdev, "type", "pci")) {
        return NULL;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *value = get(address, names[i]);

        values[i] = g_ascii_strtoull(value ?: "0", NULL, 0);
    }
    return g_strdup_printf("%04x:%02x:%02x.%x", values[0], values[1], values[2],
                           values[3]);
}

static xmlNode *find_hostdev(const Domain *d, const char *host)
{
    xmlNode *devices = devices_of(d);

    for (xmlNode *node = child(devices, NULL, "hostdev"); node;
         node = next(node->next, NULL, "hostdev")) {
        g_autofree char *found = host_of(node);

        if (!g_strcmp0(found, host)) {
            return node;
        }
    }
    return NULL;
}

/* The record of what was done to a <hostdev> */
static xmlNode *find_record(xmlNode *mark, const char *host)
{
    xmlNode *node = child(mark, OURS, "hostdev");

    while (node && !has(node, "host", host)) {
        node = next(node->next, OURS, "hostdev");
    }
    return node;
}

static xmlNode *find_controller(const Domain *d, const char *index)
{
    xmlNode *node = child(devices_of(d), NULL, "controller");

    while (node && !(has(node, "type", "pci") && has(node, "index", index))) {
        node = next(node->next, NULL, "controller");
    }
    return node;
}

/* Taking away */

/* The argument with @value that follows the one with @option, or NULL */
static xmlNode *find_argument(const Domain *d, const char *option,
                              const char *value)
{
    xmlNode *line = child(root_of(d), QEMU, "commandline");

    for (xmlNode *node = child(line, QEMU, "arg"); node;
         node = next(node->next, QEMU, "arg")) {
        xmlNode *second = next(node->next, QEMU, "arg");

        if (second && has(node, "value", option) &&
            has(second, "value", value)) {
            return second;
        }
    }
    return NULL;
}

static xmlNode *before(xmlNode *node)
{
    do {
        node = node->prev;
    } while (!is(node, QEMU, "arg"));
    return node;
}

static void undo_argument(const Domain *d, xmlNode *record)
{
    g_autofree char *option = get(record, "option");
    g_autofree char *value = get(record, "value");
    xmlNode *argument = find_argument(d, option, value);

    if (argument) {
        drop(before(argument));
        drop(argument);
        drop_if_empty(child(root_of(d), QEMU, "commandline"));
    }
}

/* <qemu:frontend> of the device @alias, or NULL */
static xmlNode *find_frontend(const Domain *d, const char *alias)
{
    xmlNode *override = child(root_of(d), QEMU, "override");
    xmlNode *device = child(override, QEMU, "device");

    while (device && !has(device, "alias", alias)) {
        device = next(device->next, QEMU, "device");
    }
    return child(device, QEMU, "frontend");
}

static xmlNode *find_property(xmlNode *frontend, const char *name)
{
    xmlNode *node = child(frontend, QEMU, "property");

    while (node && !has(node, "name", name)) {
        node = next(node->next, QEMU, "property");
    }
    return node;
}

static void undo_property(const Domain *d, xmlNode *record)
{
    g_autofree char *alias = get(record, "alias");
    g_autofree char *name = get(record, "name");
    g_autofree char *value = get(record, "value");
    g_autofree char *was = get(record, "was");
    xmlNode *frontend = find_frontend(d, alias);
    xmlNode *property = find_property(frontend, name);

    if (!property || !has(property, "value", value)) {
        return;                 /* the user has changed it */
    }
    if (was) {
        put(property, "value", was);
        return;
    }
    drop(property);
    drop_if_empty(drop_if_empty(drop_if_empty(frontend)));
}

/* Back to what it was, or, with @keep, only as to its ROM */
static void undo_hostdev(const Domain *d, xmlNode *record, bool keep)
{
    g_autofree char *host = get(record, "host");
    g_autofree char *managed = get(record, "managed");
    g_autofree char *files = guest_dir(d->uuid);
    xmlNode *hostdev = find_hostdev(d, host);
    xmlNode *old = child(record, NULL, "rom");
    xmlNode *rom = child(hostdev, NULL, "rom");
    g_autofree char *file = rom ? get(rom, "file") : NULL;

    if (file && g_str_has_prefix(file, files)) {
        drop(rom);
        if (old) {
            append(hostdev, xmlDocCopyNode(old, d->doc, 1));
        }
    }
    if (old) {
        drop(old);
    }
    if (keep || !hostdev) {
        return;
    }
    if (has(record, "made", "yes")) {
        drop(hostdev);
        return;
    }
    if (managed && has(hostdev, "managed", "yes")) {
        put(hostdev, "managed", managed);
    }
}

/* Whether a device below @node has an address on the bus with this number */
static bool is_bus_used(xmlNode *node, const char *index)
{
    for (; node; node = node->next) {
        if (is(node, NULL, "address") && has(node, "type", "pci")) {
            g_autofree char *bus = get(node, "bus");

            if (bus && g_ascii_strtoull(bus, NULL, 0) ==
                       g_ascii_strtoull(index, NULL, 0)) {
                return true;
            }
        }
        if (node->type == XML_ELEMENT_NODE && !is(node, NULL, "source") &&
            is_bus_used(node->children, index)) {
            return true;
        }
    }
    return false;
}

static void undo_controller(const Domain *d, xmlNode *record)
{
    g_autofree char *index = get(record, "index");
    xmlNode *controller = index ? find_controller(d, index) : NULL;

    if (controller && !is_bus_used(devices_of(d)->children, index)) {
        drop(controller);
    }
}

/* Call @undo for all records with this name, and remove them. */
static void undo_all(const Domain *d, const char *name,
                     void (*undo)(const Domain *d, xmlNode *record))
{
    xmlNode *mark = mark_of(d), *record;

    while ((record = child(mark, OURS, name))) {
        undo(d, record);
        drop(record);
    }
}

/* Take away all that was given, or what is not for @a. */
static void take_away(const Domain *d, const Attach *a)
{
    xmlNode *mark = mark_of(d), *record, *after;
    bool keeps = false;

    undo_all(d, "property", undo_property);
    undo_all(d, "arg", undo_argument);
    for (record = child(mark, OURS, "hostdev"); record; record = after) {
        bool keep = false;

        after = next(record->next, OURS, "hostdev");
        for (unsigned int i = 0; i < a->hosts->len; i++) {
            keep |= has(record, "host", g_ptr_array_index(a->hosts, i));
        }
        undo_hostdev(d, record, keep);
        if (!keep) {
            drop(record);
        }
        keeps |= keep;
    }
    if (mark && !keeps) {
        xmlNode *metadata = mark->parent;
        const bool made = has(mark, "metadata", "made");

        undo_all(d, "controller", undo_controller);
        drop(mark);
        if (made) {
            drop_if_empty(metadata);
        }
    }
}

/* Giving */

static xmlNode *need_mark(const Domain *d)
{
    xmlNode *mark = mark_of(d);
    xmlNode *metadata = child(root_of(d), NULL, "metadata");
    const bool made = !metadata;

    if (mark) {
        return mark;
    }
    metadata = need(root_of(d), NULL, "metadata");
    mark = add(metadata, NULL, "card", NULL);
    xmlSetNs(mark, xmlNewNs(mark, BAD_CAST OURS, BAD_CAST "optimus"));
    if (made) {
        put(mark, "metadata", "made");
    }
    return mark;
}

static xmlNode *add_hostdev(const Domain *d, const char *host)
{
    xmlNode *hostdev = add(devices_of(d), NULL, "hostdev",
                           "mode", "subsystem", "type", "pci",
                           "managed", "yes", NULL);
    g_auto(GStrv) parts = g_strsplit_set(host, ":.", 4);
    xmlNode *address = add(add(hostdev, NULL, "source", NULL), NULL, "address",
                           NULL);
    static const char *const names[] = { "domain", "bus", "slot", "function" };

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *value = g_strconcat("0x", parts[i], NULL);

        put(address, names[i], value);
    }
    return hostdev;
}

/*
 * Assign the device at @host, if it is not: @named, so that libvirt does not
 * count it among the others, whose names stay.
 */
static void give_device(const Domain *d, const char *host, bool named)
{
    xmlNode *mark = need_mark(d), *record = find_record(mark, host);
    xmlNode *hostdev = find_hostdev(d, host);

    if (!record) {
        record = add(mark, OURS, "hostdev", "host", host, NULL);
    }
    if (!hostdev) {
        hostdev = add_hostdev(d, host);
        put(record, "made", "yes");
        if (named) {
            add(hostdev, NULL, "alias", "name", ALIAS, NULL);
        }
    }
    if (!has(hostdev, "managed", "yes")) {
        g_autofree char *managed = get(hostdev, "managed");

        put(record, "managed", managed ?: "no");
        put(hostdev, "managed", "yes");
    }
}

static xmlNode *add_rom(xmlNode *hostdev)
{
    xmlNode *address = child(hostdev, NULL, "address");
    xmlNode *rom;

    if (!address) {
        return add(hostdev, NULL, "rom", NULL);
    }
    rom = xmlNewDocNode(hostdev->doc, NULL, BAD_CAST "rom", NULL);
    insert(address, rom);
    return rom;
}

static void give_rom(const Domain *d, const char *host, const char *file)
{
    xmlNode *hostdev = find_hostdev(d, host);
    xmlNode *rom = child(hostdev, NULL, "rom");

    if (rom) {
        append(find_record(mark_of(d), host), xmlDocCopyNode(rom, d->doc, 1));
    } else {
        rom = add_rom(hostdev);
    }
    xmlUnsetProp(rom, BAD_CAST "enabled");
    put(rom, "file", file);
}

/* What is there already, is the user's. */
static void give_argument(const Domain *d, const char *option,
                          const char *value)
{
    xmlNode *line;

    if (find_argument(d, option, value)) {
        return;
    }
    line = need(root_of(d), QEMU, "commandline");
    add(line, QEMU, "arg", "value", option, NULL);
    add(line, QEMU, "arg", "value", value, NULL);
    add(mark_of(d), OURS, "arg", "option", option, "value", value, NULL);
}

static void give_property(const Domain *d, const char *alias, const char *name,
                          const char *type, const char *value)
{
    xmlNode *frontend = find_frontend(d, alias), *property, *record;

    if (!frontend) {
        xmlNode *override = need(root_of(d), QEMU, "override");

        frontend = add(add(override, QEMU, "device", "alias", alias, NULL),
                       QEMU, "frontend", NULL);
    }
    property = find_property(frontend, name);
    if (has(property, "value", value)) {
        return;
    }
    record = add(mark_of(d), OURS, "property", "alias", alias, "name", name,
                 "value", value, NULL);
    if (property) {
        g_autofree char *was = get(property, "value");

        put(record, "was", was ?: "");
        put(property, "value", value);
    } else {
        add(frontend, QEMU, "property", "name", name, "type", type,
            "value", value, NULL);
    }
}

/* Before libvirt 8.2 there is no override: @globals are for all devices. */
static void give_ids(const Attach *a, const Domain *d, const char *alias,
                     bool globals)
{
    static const char *const names[] = { "vendor", "device" };
    const uint16_t values[] = { a->ids.vendor, a->ids.device };

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *name = g_strdup_printf("x-pci-sub-%s-id", names[i]);
        g_autofree char *value = g_strdup_printf("%u", values[i]);
        g_autofree char *global = g_strdup_printf("vfio-pci.%s=%s", name,
                                                  value);

        if (globals) {
            give_argument(d, "-global", global);
        } else {
            give_property(d, alias, name, "unsigned", value);
        }
    }
}

static void give_files(const Attach *a, const Domain *d)
{
    g_autoptr(GPtrArray) names = guest_file_names(&a->files);

    for (unsigned int i = 0; i < names->len; i++) {
        const char *name = g_ptr_array_index(names, i);
        g_autofree char *path = g_build_filename(a->files.out, name, NULL);
        g_autofree char *value = g_strconcat("file=", path, NULL);

        if (g_str_has_suffix(name, ".aml")) {
            give_argument(d, "-acpitable", value);
        } else {
            give_rom(d, card_of(a), path);
        }
    }
}

static void give(const Attach *a, const Domain *d, bool ids, bool globals)
{
    const char *alias = a->card->id;
    xmlNode *root = root_of(d);

    if (!xmlSearchNsByHref(d->doc, root, BAD_CAST QEMU)) {
        xmlNewNs(root, BAD_CAST QEMU, BAD_CAST "qemu");
    }
    if (a->plugin) {
        give_argument(d, "-plugin", PLUGIN_FILE);
        give_property(d, alias, "driver", "string", "vfio-optimus");
    }
    give_files(a, d);
    if (ids) {
        give_ids(a, d, alias, globals);
    }
}

/* What libvirt says */

static void free_domain(Domain *d)
{
    if (d->doc) {
        xmlFreeDoc(d->doc);
    }
    g_free(d->uuid);
    g_free(d->name);
}

static char *text_of(xmlNode *node)
{
    xmlChar *text = node ? xmlNodeGetContent(node) : NULL;
    char *copy = g_strdup(text ? (char *)text : "");

    xmlFree(text);
    return copy;
}

/* The guest @name, as it is to start next */
static bool read_domain(Domain *d, const char *name, GError **error)
{
    g_autofree char *text = ask(error, "libvirt does not give the guest", NULL,
                                "virsh", "dumpxml", "--inactive",
                                "--security-info", "--domain", name, NULL);

    *d = (Domain) { };
    if (!text) {
        return false;
    }
    d->doc = xmlReadMemory(text, strlen(text), "domain", NULL,
                           XML_PARSE_NONET | XML_PARSE_NOERROR |
                           XML_PARSE_NOWARNING | XML_PARSE_HUGE);
    if (d->doc && devices_of(d)) {
        d->uuid = text_of(child(root_of(d), NULL, "uuid"));
        d->name = text_of(child(root_of(d), NULL, "name"));
    }
    if (!d->uuid || !d->name) {
        free_domain(d);
        fail(error, "what virsh dumpxml prints of '%s' is no domain", name);
        return false;
    }
    return true;
}

/* Is it among the guests that run, or, with @what, among others? */
static bool lists(const char *uuid, const char *what, bool *yes,
                  GError **error)
{
    g_autofree char *list = ask(error, "libvirt does not list its guests",
                                NULL, "virsh", "list", "--uuid",
                                what ? "--all" : NULL, what, NULL);

    if (!list) {
        return false;
    }
    *yes = strstr(list, uuid);
    return true;
}

/* What libvirt 9.0 chooses only when it starts a guest, it has to be told. */
static void choose_backends(const Domain *d, const char *name, const char *type)
{
    for (xmlNode *node = child(devices_of(d), NULL, name); node;
         node = next(node->next, NULL, name)) {
        if (has(node, "type", type) && !child(node, NULL, "driver")) {
            add(node, NULL, "driver", "name", "vfio", NULL);
        }
    }
}

/* The guest's devices, as QEMU will get them */
static Guest *read_native(const Domain *d, GError **error)
{
    Domain copy = { .doc = xmlCopyDoc(d->doc, 1) };
    g_autofree char *xml = NULL;
    g_autofree char *line = NULL;

    choose_backends(&copy, "hostdev", "pci");
    choose_backends(&copy, "interface", "hostdev");
    xml = to_text(&copy);
    free_domain(&copy);
    line = ask(error, "libvirt makes no command line of the guest", xml,
               "virsh", "domxml-to-native", "qemu-argv", STDIN, NULL);
    return line ? parse_command_line(line, "virsh domxml-to-native", error) :
                  NULL;
}

static bool define(const Domain *d, GError **error)
{
    g_autofree char *xml = to_text(d);
    g_autofree char *said = ask(error, "libvirt does not take the changed "
                                "guest", xml, "virsh", "define", STDIN, NULL);

    return said;
}

static bool has_any(const Attach *a, const Domain *d, GError **error)
{
    for (unsigned int i = 0; i < a->hosts->len; i++) {
        const char *host = g_ptr_array_index(a->hosts, i);

        if (find_hostdev(d, host)) {
            fail_taken(error, d->name, host);
            return true;
        }
    }
    return false;
}

/* Is no device of @a assigned to another guest? */
static bool check_others(const Attach *a, const Domain *d, GError **error)
{
    g_autofree char *list = ask(error, "libvirt does not list its guests",
                                NULL, "virsh", "list", "--all", "--uuid", NULL);
    g_auto(GStrv) uuids = g_strsplit_set(list ?: "", " \n", -1);
    bool good = list;

    for (char **uuid = uuids; good && !a->force && *uuid; uuid++) {
        Domain other;

        if (!**uuid || g_str_equal(*uuid, d->uuid)) {
            continue;
        }
        if (!read_domain(&other, *uuid, error)) {
            return false;
        }
        good = !has_any(a, &other, error);
        free_domain(&other);
    }
    return good;
}

/* Old and new XML, as diff shows them */
static char *compare(const Domain *d, const char *old, const char *new,
                     GError **error)
{
    g_autofree char *before = g_strconcat(d->name, ", as it is", NULL);
    g_autofree char *after = g_strconcat(d->name, ", as it will be", NULL);
    const int fd = text_file(new);
    g_autofree char *path = g_strdup_printf("/proc/%d/fd/%d", getpid(), fd);
    char *argv[] = {
        (char *)"diff", (char *)"-u", (char *)"--label", before,
        (char *)"--label", after, (char *)"-", path, NULL
    };
    g_autoptr(GError) why = NULL;
    int status;
    char *text = run_program(argv, old, 0, &status, &why);

    close(fd);
    if (status != 0 && status != 1) {
        fail(error, "what would be changed cannot be shown: diff: %s",
             why->message);
        g_clear_pointer(&text, g_free);
    }
    return text;
}

/* Show the change of @d, which was @old and is to be that still, and ask. */
static bool confirm_change(const Attach *a, const Domain *d, const char *old,
                           GError **error)
{
    g_autofree char *new = to_text(d);
    g_autofree char *changes = compare(d, old, new, error);
    g_autofree char *now = NULL;
    Domain again;

    if (!changes || !confirm(a, changes, error) ||
        !read_domain(&again, d->uuid, error)) {
        return false;
    }
    now = to_text(&again);
    free_domain(&again);
    return g_str_equal(now, old) ||
           fail(error, "the guest '%s' was changed meanwhile: run this again",
                d->name);
}

/* The commands */

static bool check_persistent(const Domain *d, GError **error)
{
    bool persistent;

    return lists(d->uuid, "--persistent", &persistent, error) &&
           (persistent ||
            fail(error, "the guest '%s' is transient, and has no next start: "
                 "define it first", d->name));
}

/* Record the bridges that libvirt will add for what was given. */
static void record_controllers(const Domain *d, const Guest *guest)
{
    for (const GSList *id = guest->ids; id; id = id->next) {
        const char *index = id->data;

        if (g_str_has_prefix(index, "pci.") &&
            !find_controller(d, index += strlen("pci."))) {
            add(mark_of(d), OURS, "controller", "index", index, NULL);
        }
    }
}

/* Assign the devices, and ask where libvirt puts them and who runs them. */
static bool assign(Attach *a, const Domain *d, GError **error)
{
    for (unsigned int i = 0; i < a->hosts->len; i++) {
        give_device(d, g_ptr_array_index(a->hosts, i), !i);
    }
    if (!find_place(a, read_native(d, error), "libvirt", error)) {
        return false;
    }
    record_controllers(d, a->with);
    return choose_way(a, error) && plan_files(a, d->uuid, error);
}

/* Does the card of the guest have what was given? */
static bool has_taken(const Attach *a, const Domain *d, bool ids, bool *yes,
                      GError **error)
{
    Guest *guest = read_native(d, error);
    const GuestCard *card = guest ? find_card_of(guest, card_of(a)) : NULL;

    *yes = card && !g_strcmp0(card->place, a->card->place) &&
           (!a->plugin || g_str_equal(card->driver, "vfio-optimus")) &&
           (!ids || card->has_ids);
    free_guest(guest);
    return guest;
}

/* What overrides do not do, tables and globals may. */
static bool give_somehow(Attach *a, Domain *d, GError **error)
{
    const bool ids = a->has_ids && !a->card->has_ids;
    bool taken, globals = false;

    for (;;) {
        xmlDoc *doc = xmlCopyDoc(d->doc, 1);

        give(a, d, ids, globals);
        if (!has_taken(a, d, ids, &taken, error)) {
            xmlFreeDoc(doc);
            return false;
        }
        if (taken || (globals && !a->plugin)) {
            xmlFreeDoc(doc);
            break;
        }
        xmlFreeDoc(d->doc);
        d->doc = doc;
        globals = !a->plugin;
        if (a->plugin) {
            say("This libvirt has no <qemu:override>: the guest gets ACPI "
                "tables.");
            a->plugin = false;
            if (!plan_files(a, d->uuid, error)) {
                return false;
            }
        }
    }
    return taken ||
           fail(error, "libvirt's command line of '%s' does not have what was "
                "to be given: see virsh domxml-to-native", d->name);
}

static bool tell(const Attach *a, const Domain *d, GError **error)
{
    bool runs;

    if (!lists(d->uuid, NULL, &runs, error)) {
        return false;
    }
    say_done(a, d->name, runs);
    return true;
}

static bool change(Attach *a, Domain *d, const char *old, GError **error)
{
    g_autofree char *new = NULL;

    take_away(d, a);
    if (!assign(a, d, error) || !give_somehow(a, d, error)) {
        return false;
    }
    new = to_text(d);
    if (g_str_equal(old, new)) {
        say("The guest '%s' is as it should be.", d->name);
        return a->dry_run || make_files(a, error);
    }
    if (!confirm_change(a, d, old, error) || !make_files(a, error) ||
        !define(d, error)) {
        return false;
    }
    remove_files(a, d->uuid, true);
    return tell(a, d, error);
}

bool libvirt_attach(Attach *a, GError **error)
{
    g_autofree char *old = NULL, *other = NULL;
    xmlNode *record;
    bool good;
    Domain d;

    if (!read_domain(&d, a->guest, error)) {
        return false;
    }
    old = to_text(&d);
    record = child(mark_of(&d), OURS, "hostdev");
    other = record ? get(record, "host") : NULL;
    if (other && strcmp(other, card_of(a))) {
        good = fail(error, "the guest '%s' has the card at %s: take that away "
                    "first, with optimus-attach --undo", d.name, other);
    } else {
        good = check_persistent(&d, error) && check_others(a, &d, error) &&
               change(a, &d, old, error);
    }
    free_domain(&d);
    return good;
}

static bool undo(const Attach *a, Domain *d, GError **error)
{
    g_autofree char *old = to_text(d);

    take_away(d, a);
    if (!confirm_change(a, d, old, error) || !define(d, error)) {
        return false;
    }
    remove_files(a, d->uuid, false);
    return tell(a, d, error);
}

bool libvirt_undo(Attach *a, GError **error)
{
    bool good;
    Domain d;

    if (!read_domain(&d, a->guest, error)) {
        return false;
    }
    if (mark_of(&d)) {
        good = undo(a, &d, error);
    } else {
        good = (!a->dry_run && remove_files(a, d.uuid, false)) ||
               fail(error, "the guest '%s' has nothing of optimus-attach's",
                    d.name);
    }
    free_domain(&d);
    return good;
}
