/* Files into a running VM and out of it: cp's two directions. Sparse files stay sparse; modes are kept, owners are not.
 */
#pragma once

#include "machine/client.h"
#include "wire/tree.h"

/* Sends a file or folder. to: absolute path in the guest; where it is a folder (or ends with '/'), the source goes into
 * it, else it gets that name. Existing files are replaced, each as one step. */
int transfer_push(struct client *c, const char *from, const char *to, struct mvm_error *err) MVM_MUST_CHECK;
/* Sends what send() sends, at `to`. */
int transfer_push_tree(struct client *c, const char *to,
                       int (*send)(struct tree_sender *s, void *data, struct mvm_error *err), void *data,
                       struct mvm_error *err) MVM_MUST_CHECK;
/* Fetches a file or folder from the guest; `to` on the host means the same. follow: where `from` is a symlink, what it
 * points to. */
int transfer_pull(struct client *c, const char *from, bool follow, const char *to,
                  struct mvm_error *err) MVM_MUST_CHECK;
