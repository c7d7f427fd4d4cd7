/*
 * A commit is `tree HEX`, `parent HEX`..., `author ...`, `committer NAME <MAIL> SECONDS ZONE`; a tree is `MODE NAME`,
 * NUL and 20 bytes of name of what is there, over and over (gitformat-pack, git-cat-file).
 */
#include "flake/gitobject.h"
#include "base/path.h"
#include "flake/gitref.h"

#include <stdio.h>
#include <string.h>

#define HEX (2 * GIT_OID_RAWSZ)

bool git_store_open(struct git_store *s, const struct git_repo *g, const struct libgit2 *lib)
{
    CLEAN_FREE char *objects = path_join(g->common, "objects", NULL);
    *s = (struct git_store){.lib = lib};
    return objects && lib->odb_open(&s->odb, objects) == 0;
}

void git_store_done(struct git_store *s)
{
    if (s->odb)
        s->lib->odb_free(s->odb);
}

git_odb_object *git_store_read(struct git_store *s, const git_oid *id, git_object_t type)
{
    git_odb_object *o = NULL;
    if (s->lib->odb_read(&o, s->odb, id) < 0)
        return NULL;
    if (s->lib->odb_object_type(o) == type)
        return o;
    s->lib->odb_object_free(o);
    return NULL;
}

bool git_oid_parse(const char *hex, size_t left, git_oid *ret)
{
    unsigned byte;
    if (left < HEX || !git_is_rev(hex))
        return false;
    for (size_t i = 0; i < GIT_OID_RAWSZ; i++) {
        sscanf(hex + 2 * i, "%2x", &byte);
        ret->id[i] = (unsigned char)byte;
    }
    return true;
}

/* The number behind "<MAIL> ". */
static uint64_t parse_time(const char *line, size_t n)
{
    const char *mail = memrchr(line, '>', n);
    return mail ? strtoull(mail + 1, NULL, 10) : 0;
}

/* libgit2 ends an object's data with a NUL. */
bool git_commit_parse(const char *text, size_t size, git_oid *tree, uint64_t *time,
                      bool (*parent)(void *data, const git_oid *id), void *data)
{
    const char *stop = text + size;
    bool has_tree = false;
    for (const char *line = text, *end; line < stop && *line != '\n'; line = end + 1) {
        end = memchr(line, '\n', (size_t)(stop - line));
        git_oid id;
        if (!end)
            return false;
        size_t n = (size_t)(end - line);
        if (strncmp(line, "tree ", 5) == 0)
            has_tree = git_oid_parse(line + 5, n - 5, tree);
        else if (strncmp(line, "parent ", 7) == 0 && parent && git_oid_parse(line + 7, n - 7, &id) &&
                 !parent(data, &id))
            return false;
        else if (strncmp(line, "committer ", 10) == 0)
            *time = parse_time(line, n);
    }
    return has_tree;
}

bool git_tree_next(const char **at, const char *stop, struct git_tree_entry *ret)
{
    char *name;
    const char *end = *at < stop ? memchr(*at, '\0', (size_t)(stop - *at)) : NULL;
    if (!end || stop - end <= GIT_OID_RAWSZ)
        return false;
    ret->mode = (unsigned)strtoul(*at, &name, 8);
    if (*name != ' ')
        return false;
    ret->name = name + 1;
    memcpy(ret->id.id, end + 1, GIT_OID_RAWSZ);
    *at = end + 1 + GIT_OID_RAWSZ;
    return true;
}
