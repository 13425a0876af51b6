/* A directory service that hands out subordinate ids, for `subid: directory` in nsswitch.conf: 65536 ids from 300000 on for uid 1002.
   The functions and their meaning are those of shadow's lib/prototypes.h; newuidmap and getsubids load this by its name. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

enum subid_type { ID_TYPE_UID = 1, ID_TYPE_GID = 2 };
enum subid_status { SUBID_STATUS_SUCCESS, SUBID_STATUS_UNKNOWN_USER, SUBID_STATUS_ERROR_CONN, SUBID_STATUS_ERROR };
struct subid_range {
	unsigned long start;
	unsigned long count;
};

static const char OWNER[] = "remote";
static const uid_t OWNER_UID = 1002;
static const struct subid_range RANGE = { 300000, 65536 };

enum subid_status shadow_subid_has_range(const char *owner, unsigned long start, unsigned long count, enum subid_type type, bool *result)
{
	(void)type;
	*result = strcmp(owner, OWNER) == 0 && start >= RANGE.start && start + count <= RANGE.start + RANGE.count;
	return SUBID_STATUS_SUCCESS;
}

enum subid_status shadow_subid_list_owner_ranges(const char *owner, enum subid_type type, struct subid_range **ranges, int *count)
{
	(void)type;
	*ranges = NULL;
	*count = 0;
	if (strcmp(owner, OWNER) != 0)
		return SUBID_STATUS_UNKNOWN_USER;
	*ranges = malloc(sizeof RANGE);
	if (*ranges == NULL)
		return SUBID_STATUS_ERROR;
	**ranges = RANGE;
	*count = 1;
	return SUBID_STATUS_SUCCESS;
}

enum subid_status shadow_subid_find_subid_owners(unsigned long id, enum subid_type type, uid_t **uids, int *count)
{
	(void)type;
	*uids = NULL;
	*count = 0;
	if (id < RANGE.start || id >= RANGE.start + RANGE.count)
		return SUBID_STATUS_SUCCESS;
	*uids = malloc(sizeof OWNER_UID);
	if (*uids == NULL)
		return SUBID_STATUS_ERROR;
	**uids = OWNER_UID;
	*count = 1;
	return SUBID_STATUS_SUCCESS;
}
