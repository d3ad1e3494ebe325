/* SPDX-License-Identifier: Apache-2.0
 *
 * Every command of `leeward`, as data. Commands of one group stand together.
 */
#include "hub/cli/command.h"
#include "hub/cli/jobwait.h"
#include "hub/cli/verbs.h"

#define END                                                                                                            \
    {                                                                                                                  \
        NULL, 0, NULL, NULL                                                                                            \
    }

static const struct command_option job_options[] = {JOBWAIT_OPTIONS, END};

static const struct command_option up_options[] = {
    {"data", 0, "DIR", "Folder for everything (/var/lib/leeward as root, else ~/.local/share/leeward)"},
    {"port-base", 0, "N", "API on port N, control N+1, node N+2, vault N+3 (8443, 9442, 9443, 9444)"},
    {"api-listen", 0, "ADDRESS:PORT", "Where the API listens (127.0.0.1:8443)"},
    {"hostnames", 0, "LIST", "Names and addresses of the API's certificate besides this host's, separated by commas"},
    {"database", 0, "DSN", "PostgreSQL to use; without it a private one is started"},
    {"no-agent", 0, NULL, "Do not run an agent for this machine"},
    {"agent-instance", 0, "NAME", "Name that keeps several agents on one machine apart (for tests)"},
    {"simulate", 0, "N", "Add N simulated machines, which go when this ends"},
    {"log-level", 0, "LEVEL", "debug, info, warn or error, for all daemons"},
    END,
};

static const struct command_option simulate_options[] = {
    {"control", 0, "HOST:PORT", "The hub's control port (the API's host, port 9442)"},
    {"data", 0, "DIR", "Folder for the certificates (a temporary one)"},
    {"no-past", 0, NULL, "Machines bring no recovery points of the past sixty days"},
    {"no-protect", 0, NULL, "Leave the machines unprotected"},
    END,
};

static const struct command_option machine_list_options[] = {
    {"state", 0, "STATES", "Only these, separated by commas"},
    END,
};

static const struct command_option disk_list_options[] = {
    {"all", 0, NULL, "Those that were removed, too"},
    END,
};

static const struct command_option protect_options[] = {
    {"disk", 0, "DISK", "Key or device of a disk; may be repeated (all that can be tracked)"},
    {"policy", 0, "NAME", "Policy (the default one)"},
    {"seed", 0, "DISK=FILE",
        "An older copy of a disk as a base, so that only what differs travels: a raw image or a block device on the "
        "vault's host; may be repeated"},
    {"vault", 0, "NAME", "Vault (the hub chooses)"},
    JOBWAIT_OPTIONS,
    END,
};

static const struct command_option move_options[] = {
    {"node", 0, "NODE", "To this node (the best other one)"},
    {"pin", 0, NULL,
        "It stays there, and comes back to it, while that node can be used; a move without this ends a pin"},
    JOBWAIT_OPTIONS,
    END,
};

static const struct command_option machine_set_options[] = {
    {"name", 0, "NAME", "Another name; of one machine"},
    {"policy", 0, "NAME", "Another policy"},
    {"site", 0, "NAME", "Another site"},
    {"no-site", 0, NULL, "No site any more"},
    {"filter", 0, "NAME=VALUE", "All machines that a filter of the API finds, instead of names; may be repeated"},
    {"confirm", 0, "N", "So many machines are meant; without it a terminal is asked where they are several"},
    END,
};

static const struct command_option policy_options[] = {
    {"name", 0, "NAME", "Another name"},
    {"description", 0, "TEXT", "What it is for"},
    {"default", 0, "yes|no", "Used where nobody chose"},
    {"interval", 0, "DURATION", "Between recovery points (1s)"},
    {"fs-interval", 0, "DURATION", "Between file-system-consistent points; 0: none"},
    {"app-interval", 0, "DURATION", "Between app-consistent points; 0: none"},
    {"rpo-target", 0, "DURATION", "Warning above, critical above three times"},
    {"keep-all", 0, "DURATION", "Every point is kept for this long,"},
    {"keep-minutely", 0, "DURATION", "then one per minute,"},
    {"keep-hourly", 0, "DURATION", "hour"},
    {"keep-daily", 0, "DURATION", "and day"},
    {"keep-tagged", 0, "DURATION", "Tagged points are kept for this long; 0: for ever"},
    {"lock", 0, "DURATION", "Nobody can drop a point before it is this old; taking it back is for later points alone"},
    {"freeze-budget", 0, "DURATION", "A freeze never takes longer (200ms)"},
    {"may-freeze", 0, "yes|no", "Whether crash-consistent points may freeze at all"},
    {"max-rounds", 0, "N", "Live rounds before a freeze is considered"},
    {"compress-at-agent", 0, "yes|no", "Compress on the machine while the line to its node is the bottleneck (yes)"},
    {"compress-level", 0, "N", "zstd level; 0: as sent"},
    {"throttle", 0, "BYTES", "Bytes per second, such as 10M; 0: no limit"},
    {"work-hours", 0, "TEXT", "When less may be sent: \"mon-fri 08:00-18:00, sat 09:00-13:00\""},
    {"time-zone", 0, "ZONE", "Whose time that is, as Europe/Stockholm (UTC)"},
    {"work-throttle", 0, "BYTES", "Bytes per second in these hours"},
    {"cpu-limit", 0, "N", "Percent of one processor for the agent; 0: no limit"},
    {"yield", 0, "yes|no", "Copies slow down when the workload feels them (yes)"},
    END,
};

static const struct command_option group_options[] = {
    {"name", 0, "NAME", "Another name"},
    {"description", 0, "TEXT", "What it is for"},
    {"interval", 0, "DURATION", "Between group points (60s); 0: only when asked for"},
    {"freeze-budget", 0, "DURATION", "No member's freeze takes longer; 0: as its own policy says"},
    {"machine", 0, "MACHINE", "With create: a first member; may be repeated, the first one coordinates"},
    END,
};

static const struct command_option group_points_options[] = {
    {"limit", 0, "N", "At most so many, the latest (20; 500 with -o json)"},
    END,
};

static const struct command_option alert_list_options[] = {
    {"all", 0, NULL, "Those that are resolved, too"},
    {"code", 0, "CODES", "Only these, separated by commas"},
    {"severity", 0, "SEVERITY", "warning or critical"},
    END,
};

static const struct command_option history_options[] = {
    {"since", 0, "DURATION", "So far back, for example 2h or 30d (1d)"},
    {"step", 0, "minute|hour|day", "Grain; the finest that is kept for that time when it is not given"},
    END,
};

static const struct command_option approval_list_options[] = {
    {"all", 0, NULL, "Those that are decided, too"},
    END,
};

static const struct command_option alert_ack_options[] = {
    {"note", 0, "TEXT", "For those who come after"},
    END,
};

static const struct command_option channel_options[] = {
    {"hook", 0, "URL", "A webhook: where it posts to"},
    {"server", 0, "HOST", "Mail: the server"},
    {"port", 0, "N", "Mail: its port (587; 465 with tls)"},
    {"security", 0, "WORD", "Mail: starttls, tls or none (starttls). A webhook: none allows http://"},
    {"username", 0, "NAME", "Mail: to sign in with"},
    {"from", 0, "ADDRESS", "Mail: where it comes from"},
    {"to", 0, "ADDRESS", "Mail: who gets it; may be repeated"},
    {"secret-file", 0, "PATH", "Key of the webhook's signature, or password of the mail server"},
    {"ca-file", 0, "PATH", "PEM of the authority that vouches for the receiver"},
    {"min-severity", 0, "SEVERITY", "critical: warnings are not told (warning)"},
    {"group", 0, "DURATION", "How long the first change waits for others (30s)"},
    {"send-resolved", 0, "yes|no", "Tell when an alert is resolved (yes)"},
    {"weekly-report", 0, "yes|no", "Send the weekly report (no)"},
    {"enabled", 0, "yes|no", "Whether anything is sent (yes)"},
    END,
};

static const struct command_option report_options[] = {
    {"format", 0, "FORMAT", "csv or html (csv)"},
    {"until", 0, "TIME", "End of the week (now)"},
    END,
};

static const struct command_option site_options[] = {
    {"description", 0, "TEXT", "What it is"},
    END,
};

static const struct command_option gc_options[] = {
    {"machine", 0, "MACHINE", "Only this one"},
    JOBWAIT_OPTIONS,
    END,
};

static const struct command_option verify_options[] = {
    {"machine", 0, "MACHINE", "Only this one"},
    {"incremental", 0, NULL, "Only what was never verified"},
    {"older-than", 0, "DURATION", "Only what was not verified for this long"},
    JOBWAIT_OPTIONS,
    END,
};

static const struct command_option capacity_options[] = {
    {"device", 0, "DEVICE", "Measure this disk now; it is not protected for it. As DEVICE alone"},
    {"time", 0, "DURATION", "How long to measure (10m)"},
    {"link", 0, "N", "Bytes per second of the line (12M); without it the one that is needed is told"},
    {"interval", 0, "DURATION", "Between recovery points (1s)"},
    {"rpo-target", 0, "DURATION", "For 99 of 100 seconds (15s)"},
    {"keep-all", 0, "DURATION", "Every point is kept for this long (1d),"},
    {"keep-minutely", 0, "DURATION", "then one per minute (3d),"},
    {"keep-hourly", 0, "DURATION", "hour (14d)"},
    {"keep-daily", 0, "DURATION", "and day (90d)"},
    END,
};

static const struct command_option bench_options[] = {
    {"rounds", 0, "N", "How many recovery points are made, and how often one is opened (5)"},
    {"read-time", 0, "DURATION", "How long an open point is read at random, and again from its beginning on (5s)"},
    END,
};

static const struct command_option churn_options[] = {
    {"limit", 0, "N", "At most so many minutes of disks, the latest (60)"},
    END,
};

static const struct command_option point_list_options[] = {
    {"limit", 0, "N", "At most so many, the latest (20; 500 with -o json)"},
    {"all", 0, NULL, "All of them"},
    {"after", 0, "TIME", "At or after this moment (RFC 3339)"},
    {"before", 0, "TIME", "Before this moment"},
    {"kind", 0, "KINDS", "crash, filesystem, application; separated by commas"},
    {"tag", 0, "TAG", "With this tag"},
    END,
};

static const struct command_option point_create_options[] = {
    {"app", 0, NULL, "App-consistent: runs the hooks of the machine"},
    {"fs", 0, NULL, "File-system-consistent: freezes the file systems for a moment"},
    {"tag", 0, "TAG", "Name of the point"},
    JOBWAIT_OPTIONS,
    END,
};

static const struct command_option copy_remove_options[] = {
    {"forget", 0, NULL, "That vault is lost for good: nothing is erased"},
    JOBWAIT_OPTIONS,
    END,
};

static const struct command_option copy_use_options[] = {
    {"confirm", 0, "MACHINE", "The machine's name once more"},
    JOBWAIT_OPTIONS,
    END,
};

static const struct command_option copy_points_options[] = {
    {"all", 0, NULL, "All of them, not only the newest"},
    END,
};

static const struct command_option point_open_options[] = {
    {"write", 'w', NULL, "A branch that can be written to; the point itself stays as it is"},
    {"vault", 0, "VAULT", "A point of the copy that this vault has; POINT is its number there"},
    {"disk", 0, "N", "Print the URI of this disk (the first one)"},
    {"socket", 0, "PATH", "Unix socket on the vault's host"},
    JOBWAIT_OPTIONS,
    END,
};

static const struct command_option reprotect_options[] = {
    {"vault", 0, "VAULT", "Another vault, at the old site as a rule, keeps a copy of the points from then on"},
    JOBWAIT_OPTIONS,
    END,
};

#define FAILOVER_OPTIONS                                                                                               \
    {"target", 't', "TARGET", "Where the replica runs (disks: its disks alone, over NBD)"},                            \
        {"cpus", 0, "N", "Processors, if not as many as the machine has"},                                             \
        {"memory-mib", 0, "MIB", "Memory, if not as much as the machine has"},                                         \
        {"network", 0, "NAME",                                                                                         \
            "Network at the target, for one card; \"\": no card. Without it as the mappings say, else none"},          \
        {"boot-port", 0, "[ADDRESS:]PORT", "It is up when this port answers"},                                         \
        {"boot-serial", 0, "TEXT", "It is up when this text is on its serial line"},                                   \
        {"boot-timeout", 0, "DURATION", "How long that may take (5m)"},                                                \
        {"fixups", 0, "JSON",                                                                                          \
            "Prepare its disks for a virtual machine: {} for what every replica needs (docs/failover.md)"},            \
        {"fixups-failure", 0, "WORD",                                                                                  \
            "When that cannot be done: stop (planned), or continue with the disks as they are (others)"},              \
        {"address", 0, "ADDRESS/BITS", "Its network card gets this address, or dhcp"},                                 \
        {"gateway", 0, "ADDRESS", "And this way out"}, {"dns", 0, "ADDRESS,...", "And these name servers"},            \
    {                                                                                                                  \
        "no-mapping", 0, NULL, "Leave out what the mappings of the machine and its site say"                           \
    }

static const struct command_option failover_options[] = {
    FAILOVER_OPTIONS,
    JOBWAIT_OPTIONS,
    END,
};

static const struct command_option failover_preview_options[] = {
    {"kind", 0, "KIND",
        "Of which failover: test, planned or unplanned (unplanned); a test may have other networks and addresses"},
    FAILOVER_OPTIONS,
    JOBWAIT_OPTIONS,
    END,
};

static const struct command_option mapping_options[] = {
    {"cpus", 0, "N", "Processors of replicas; 0: as many as the machine has"},
    {"memory-mib", 0, "MIB", "Their memory; 0: as much as the machine has"},
    {"nic", 0, "SOURCE",
        "Which card the options below are of: its name, its hardware address, a network such as 10.1.0.0/16, or * (*)"},
    {"network", 0, "NAME", "The card's network at the target for planned and unplanned failovers; \"\": no such card"},
    {"test-network", 0, "NAME", "The one for tests and drills, which must lead nowhere else; \"\": no such card"},
    {"address", 0, "ADDRESS/BITS", "The card's address at the target, or dhcp, or keep"},
    {"gateway", 0, "ADDRESS", "And its way out"},
    {"dns", 0, "ADDRESS,...", "And its name servers"},
    {"test-address", 0, "ADDRESS/BITS", "The same for tests and drills, where they have another"},
    {"test-gateway", 0, "ADDRESS", "And its way out"},
    {"test-dns", 0, "ADDRESS,...", "And its name servers"},
    {"translate", 0, "FROM=TO",
        "The layout stays, and addresses in this network get the same place in that one; may be repeated"},
    {"remove", 0, NULL, "Forget the entry of that card"},
    END,
};

static const struct command_option failover_cleanup_options[] = {
    {"outcome", 0, "WORD", "passed or failed: what you found"},
    {"notes", 0, "TEXT", "Kept with the test"},
    JOBWAIT_OPTIONS,
    END,
};

static const struct command_option failover_failback_options[] = {
    {"confirm", 0, "NAME", "The name of the machine whose disks are overwritten"},
    {"to", 0, "MACHINE", "Another machine that takes the original's place, as one that runs the rescue image"},
    {"disk", 0, "NUMBER=KEY,...", "With --to: onto which of its disks each disk is written"},
    {"keep-fixups", 0, NULL, "It gets what fix-ups changed for the replica, too"},
    JOBWAIT_OPTIONS,
    END,
};

static const struct command_option restore_options[] = {
    {"to", 0, "MACHINE", "The machine whose disks are overwritten, as one that runs the rescue image"},
    {"confirm", 0, "NAME", "Its name"},
    {"disk", 0, "NUMBER=KEY,...", "Onto which of its disks each disk of the point is written"},
    JOBWAIT_OPTIONS,
    END,
};

static const struct command_option target_create_options[] = {
    {"config", 0, "JSON", "What the adapter must know: docs/failover.md"},
    {"description", 0, "TEXT", "For people"},
    END,
};

static const struct command_option target_set_options[] = {
    {"name", 0, "NAME", "Another name"},
    {"config", 0, "JSON", "What the adapter must know: docs/failover.md"},
    {"description", 0, "TEXT", "For people"},
    END,
};

static const struct command_option plan_export_options[] = {
    {"format", 0, "FORMAT", "yaml or json (yaml)"},
    END,
};

static const struct command_option plan_run_options[] = {
    {"kind", 0, "KIND", "test, planned, unplanned or failback (test)"},
    {"point", 0, "POINT", "latest, latest_application, or a time: of each machine the newest one then (latest)"},
    {"target", 't', "TARGET", "Where all replicas run, in place of what the plan says"},
    {"network", 0, "NAME", "Network of all replicas, in place of what the plan says"},
    {"cleanup", 0, NULL, "Of a test: take the replicas away at its end"},
    JOBWAIT_OPTIONS,
    END,
};

static const struct command_option all_runs_options[] = {
    {"all", 0, NULL, "All of them, not the newest 50"},
    END,
};

static const struct command_option plan_report_options[] = {
    {"html", 0, "FILE", "Write it as a page into this file"},
    END,
};

#define DRILL_OPTIONS                                                                                                  \
    {"interval", 0, "DURATION", "Between two drills, such as 7d"},                                                     \
        {"overdue-after", 0, "DURATION", "Overdue without a good drill for so long (one and a half intervals)"},       \
        {"window", 0, "HOURS", "When it may begin, such as \"sat,sun 02:00-05:00\" (always)"},                         \
        {"time-zone", 0, "ZONE", "Of the window (UTC)"},                                                               \
        {"target", 't', "TARGET", "Where replicas run (as the plan says; needed for a policy)"},                       \
        {"network", 0, "NAME", "Isolated network of the replicas"},                                                    \
        {"boot-port", 0, "PORT", "A replica is up when this port answers"},                                            \
        {"boot-serial", 0, "TEXT", "A replica is up when this text is on its serial line"},                            \
    {                                                                                                                  \
        "enabled", 0, "YES|NO", "Whether it begins by itself (yes)"                                                    \
    }

static const struct command_option drill_create_options[] = {
    {"plan", 0, "PLAN", "A drill of this recovery plan; or:"},
    {"policy", 0, "POLICY", "A drill of all machines of this policy"},
    DRILL_OPTIONS,
    END,
};

static const struct command_option drill_set_options[] = {
    {"name", 0, "NAME", "Another name"},
    DRILL_OPTIONS,
    END,
};

static const struct command_option drill_machines_options[] = {
    {"overdue", 0, NULL, "Only those that are overdue"},
    END,
};

static const struct command_option branch_create_options[] = {
    {"name", 0, "NAME", "Name of the branch, besides its id"},
    {"socket", 0, "PATH", "Unix socket on the vault's host"},
    JOBWAIT_OPTIONS,
    END,
};

static const struct command_option branch_open_options[] = {
    {"socket", 0, "PATH", "Unix socket on the vault's host"},
    JOBWAIT_OPTIONS,
    END,
};

static const struct command_option export_options[] = {
    {"format", 0, "FORMAT", "raw, qcow2, vhd or vmdk (raw)"},
    {"vault", 0, "VAULT", "A point of the copy that this vault has, on its host; POINT is its number there"},
    JOBWAIT_OPTIONS,
    END,
};

static const struct command_option all_options[] = {
    {"all", 0, NULL, "Those that are over, too"},
    END,
};

static const struct command_option job_list_options[] = {
    {"status", 0, "STATUS", "Only these, separated by commas"},
    {"limit", 0, "N", "At most so many, the newest (50)"},
    {"all", 0, NULL, "All of them"},
    END,
};

static const struct command_option job_wait_options[] = {
    {"timeout", 0, "DURATION", "Wait at most this long"},
    END,
};

static const struct command_option event_list_options[] = {
    {"machine", 0, "MACHINE", "Only of this one"},
    {"severity", 0, "LIST", "info, warning, error; separated by commas"},
    {"limit", 0, "N", "At most so many, the newest (50)"},
    END,
};

static const struct command_option event_tail_options[] = {
    {"machine", 0, "MACHINE", "Only of this one"},
    {"severity", 0, "LIST", "info, warning, error; separated by commas"},
    {"from", 0, "SEQ", "Begin after this event"},
    {"count", 0, "N", "End after so many"},
    END,
};

static const struct command_option token_options[] = {
    {"role", 0, "ROLE", "viewer, operator or admin (operator)"},
    {"scopes", 0, "LIST", "Fewer rights than the role has: resource:verb, separated by commas"},
    {"expires", 0, "DURATION", "Valid for this long (for ever)"},
    END,
};

static const struct command_option enrol_options[] = {
    {"role", 0, "ROLE", "agent, node or vault; the same as the argument"},
    {"name", 0, "TEXT", "What it is for"},
    {"expires", 0, "DURATION", "Valid for this long (24h)"},
    END,
};

static const struct command_option help_options[] = {
    {"markdown", 0, NULL, "The reference of all commands as Markdown"},
    {"man", 0, "DIR", "Write manual pages into this folder"},
    END,
};

static const struct command_option api_options[] = {
    {"data", 0, "JSON|@FILE|-", "Body of the request"},
    {"if-match", 0, "ETAG", "Only if the item is as it was read"},
    END,
};

static const struct command_option vault_set_options[] = {
    {"name", 0, "NAME", "Another name"},
    {"site", 0, "NAME", "Another site"},
    {"throttle", 0, "BYTES", "Bytes per second from other vaults for copies, such as 10M, all together; 0: no limit"},
    {"machine-throttle", 0, "BYTES", "Bytes per second from other vaults for each machine's copy; 0: no limit"},
    {"work-hours", 0, "TEXT", "When less may come: \"mon-fri 08:00-18:00, sat 09:00-13:00\""},
    {"time-zone", 0, "ZONE", "Whose time that is, as Europe/Stockholm (UTC)"},
    {"work-throttle", 0, "BYTES", "Bytes per second in these hours, all copies together"},
    END,
};

static const struct command_option node_set_options[] = {
    {"name", 0, "NAME", "Another name"},
    {"site", 0, "NAME", "Another site"},
    {"throttle", 0, "BYTES", "Bytes per second to vaults, such as 10M, all machines together; 0: no limit"},
    {"machine-throttle", 0, "BYTES", "Bytes per second to vaults for each machine; 0: no limit"},
    {"work-hours", 0, "TEXT", "When less may be sent: \"mon-fri 08:00-18:00, sat 09:00-13:00\""},
    {"time-zone", 0, "ZONE", "Whose time that is, as Europe/Stockholm (UTC)"},
    {"work-throttle", 0, "BYTES", "Bytes per second in these hours, all machines together"},
    END,
};

static const struct command_option site_set_options[] = {
    {"name", 0, "NAME", "Another name"},
    {"description", 0, "TEXT", "What it is"},
    END,
};

static const struct command_option audit_options[] = {
    {"limit", 0, "N", "At most so many, the newest (50)"},
    END,
};

static const struct command_option user_create_options[] = {
    {"role", 0, "viewer|operator|admin", "What the user may do (viewer)"},
    {"display-name", 0, "TEXT", "Name for people"},
    END,
};

static const struct command_option user_set_options[] = {
    {"role", 0, "viewer|operator|admin", "What the user may do"},
    {"display-name", 0, "TEXT", "Name for people"},
    {"disabled", 0, "yes|no", "Whether the user is kept out; yes ends the sessions"},
    {"reset-password", 0, NULL, "Draw a new first password; prints it once"},
    END,
};

const struct command commands[] = {
    {"up", "", "Run hub, node, vault and the agent of this machine in the foreground", up_options, 0, 0, true, verb_up},
    {"simulate", "N", "Run N simulated machines against a hub until Ctrl-C, then remove them", simulate_options, 1, 1,
        false, verb_simulate},
    {"simulate remove", "", "Remove what is left of a simulation that was killed", NULL, 0, 0, false,
        verb_simulate_remove},
    {"login", "URL", "Store address and token of a hub as a profile", NULL, 1, 1, true, verb_login},
    {"profile list", "", "List the hubs that somebody logged in to", NULL, 0, 0, true, verb_profile_list},
    {"profile use", "PROFILE", "Make a profile the one that is used", NULL, 1, 1, true, verb_profile_use},
    {"profile remove", "PROFILE", "Forget a profile with its token", NULL, 1, 1, true, verb_profile_remove},
    {"status", "", "The hub and what it looks after, in numbers", NULL, 0, 0, false, verb_status},
    {"version", "", "Version of this program", NULL, 0, 0, true, verb_version},
    {"overview", "", "What the console's first page shows: health, RPO, drills, capacity, the worst problems", NULL, 0,
        0, false, verb_overview},
    {"machine list", "", "List machines", machine_list_options, 0, 0, false, verb_machine_list},
    {"machine show", "MACHINE", "Show a machine", NULL, 1, 1, false, verb_machine_show},
    {"machine protect", "MACHINE [DISK...]", "Protect disks of a machine", protect_options, 1, COMMAND_ARGUMENTS_MAX,
        false, verb_machine_protect},
    {"machine unprotect", "MACHINE", "Stop protecting a machine; its recovery points stay", job_options, 1, 1, false,
        verb_machine_unprotect},
    {"machine resync", "MACHINE", "Compare hashes at both ends and send what differs", job_options, 1, 1, false,
        verb_machine_resync},
    {"machine restore", "MACHINE[@POINT]",
        "Write a point of a lost machine to another one's disks, which takes its place", restore_options, 1, 1, false,
        verb_machine_restore},
    {"machine move", "MACHINE", "Move a machine to another process node; nothing is sent twice", move_options, 1, 1,
        false, verb_machine_move},
    {"machine set", "[MACHINE...]",
        "Change name, policy or site of a machine, or policy and site of many: one line says of each what became of it",
        machine_set_options, 0, COMMAND_ARGUMENTS_MAX, false, verb_machine_set},
    {"machine mapping show", "MACHINE", "Show what replicas of a machine get at a target, and what that comes to", NULL,
        1, 1, false, verb_machine_mapping_show},
    {"machine mapping set", "MACHINE", "Change the networks, addresses, processors and memory of a machine's replicas",
        mapping_options, 1, 1, false, verb_machine_mapping_set},
    {"machine mapping clear", "MACHINE", "Let a machine's replicas be as its site says, else as it is itself", NULL, 1,
        1, false, verb_machine_mapping_clear},
    {"machine history", "MACHINE", "RPO, churn and throughput over time", history_options, 1, 1, false,
        verb_machine_history},
    {"machine churn", "MACHINE", "What was written to the protected disks, by the minute", churn_options, 1, 1, false,
        verb_machine_churn},
    {"machine delete", "MACHINE", "Forget an unprotected machine", NULL, 1, 1, false, verb_machine_delete},
    {"machine erase", "MACHINE", "Make all that the vault holds of an unprotected machine unreadable, for good",
        job_options, 1, 1, false, verb_machine_erase},
    {"machine rotate-key", "MACHINE", "Give a machine a new data key from now on; data is not rewritten", job_options,
        1, 1, false, verb_machine_rotate_key},
    {"machine integrity", "MACHINE", "How far its history was verified, what is damaged, and which points that hits",
        NULL, 1, 1, false, verb_machine_integrity},
    {"bench", "[MACHINE]",
        "Measure this installation: API requests, and of a machine making, opening and reading recovery points",
        bench_options, 0, 1, false, verb_bench},
    {"capacity", "[DEVICE|FILE]", "What protecting a disk would take: line, vault, recovery-point age",
        capacity_options, 0, 1, true, verb_capacity},
    {"disk list", "MACHINE", "List the disks of a machine", disk_list_options, 1, 1, false, verb_disk_list},
    {"disk add", "MACHINE DISK...", "Protect more disks of a protected machine; the others go on", job_options, 2,
        COMMAND_ARGUMENTS_MAX, false, verb_disk_add},
    {"disk exclude", "MACHINE DISK...", "Leave disks out of a protected machine; the points that have them stay",
        job_options, 2, COMMAND_ARGUMENTS_MAX, false, verb_disk_exclude},
    {"disk resize", "MACHINE [DISK...]",
        "Have disks that grew looked at (all that are protected), and make a point with their new size", job_options, 1,
        COMMAND_ARGUMENTS_MAX, false, verb_disk_resize},
    {"policy list", "", "List policies", NULL, 0, 0, false, verb_policy_list},
    {"policy show", "POLICY", "Show a policy", NULL, 1, 1, false, verb_policy_show},
    {"policy create", "NAME", "Create a policy", policy_options, 1, 1, false, verb_policy_create},
    {"policy set", "POLICY", "Change a policy", policy_options, 1, 1, false, verb_policy_set},
    {"policy delete", "POLICY", "Delete a policy that no machine uses", NULL, 1, 1, false, verb_policy_delete},
    {"group list", "", "List consistency groups", NULL, 0, 0, false, verb_group_list},
    {"group show", "GROUP", "Show a consistency group with its members", NULL, 1, 1, false, verb_group_show},
    {"group create", "GROUP", "Create a consistency group: machines whose points are made of one moment", group_options,
        1, 1, false, verb_group_create},
    {"group set", "GROUP", "Change a consistency group", group_options, 1, 1, false, verb_group_set},
    {"group add", "GROUP MACHINE...", "Add machines to a group", NULL, 2, COMMAND_ARGUMENTS_MAX, false, verb_group_add},
    {"group remove", "GROUP MACHINE...", "Take machines out of a group", NULL, 2, COMMAND_ARGUMENTS_MAX, false,
        verb_group_remove},
    {"group delete", "GROUP", "Delete a group; its machines keep their points", NULL, 1, 1, false, verb_group_delete},
    {"group point", "GROUP", "Make a group point now", job_options, 1, 1, false, verb_group_point},
    {"group points", "GROUP", "List the group points that all members have", group_points_options, 1, 1, false,
        verb_group_points},
    {"site list", "", "List sites", NULL, 0, 0, false, verb_site_list},
    {"site show", "SITE", "Show a site", NULL, 1, 1, false, verb_site_show},
    {"site create", "NAME", "Create a site", site_options, 1, 1, false, verb_site_create},
    {"site set", "SITE", "Change name or description of a site", site_set_options, 1, 1, false, verb_site_set},
    {"site mapping show", "SITE", "Show what replicas of a site's machines get where their own mappings do not say",
        NULL, 1, 1, false, verb_site_mapping_show},
    {"site mapping set", "SITE", "Change the networks, addresses, processors and memory of replicas of its machines",
        mapping_options, 1, 1, false, verb_site_mapping_set},
    {"site mapping clear", "SITE", "Let the replicas of a site's machines be as these are", NULL, 1, 1, false,
        verb_site_mapping_clear},
    {"site delete", "SITE", "Delete a site that nothing belongs to", NULL, 1, 1, false, verb_site_delete},
    {"node list", "", "List process nodes", NULL, 0, 0, false, verb_node_list},
    {"node show", "NODE", "Show a process node", NULL, 1, 1, false, verb_node_show},
    {"node set", "NODE", "Change name, site or limits of a process node", node_set_options, 1, 1, false, verb_node_set},
    {"node drain", "NODE", "Stop sending through a node, and place nothing on it", NULL, 1, 1, false, verb_node_drain},
    {"node undrain", "NODE", "Let a node carry machines again", NULL, 1, 1, false, verb_node_undrain},
    {"node delete", "NODE", "Forget a node that serves no machine", NULL, 1, 1, false, verb_node_delete},
    {"vault list", "", "List vaults", NULL, 0, 0, false, verb_vault_list},
    {"vault show", "VAULT", "Show a vault", NULL, 1, 1, false, verb_vault_show},
    {"vault set", "VAULT", "Change name, site or limits of a vault", vault_set_options, 1, 1, false, verb_vault_set},
    {"vault stat", "[VAULT]", "Space and load of the vaults, or what the machines of one take and when it is full",
        NULL, 0, 1, false, verb_vault_stat},
    {"vault copies", "VAULT", "List the copies that a vault keeps of machines that are replicated to other vaults",
        NULL, 1, 1, false, verb_vault_copies},
    {"vault gc", "[VAULT]", "Give back the space of what no recovery point needs", gc_options, 0, 1, false,
        verb_vault_gc},
    {"vault rotate-key", "[VAULT]", "Give a vault a new key; data is not rewritten", job_options, 0, 1, false,
        verb_vault_rotate_key},
    {"vault verify", "[VAULT]", "Read and check everything that a vault stores", verify_options, 0, 1, false,
        verb_vault_verify},
    {"vault delete", "VAULT", "Forget a vault that serves no machine", NULL, 1, 1, false, verb_vault_delete},
    {"point list", "MACHINE", "List the recovery points of a machine", point_list_options, 1, 1, false,
        verb_point_list},
    {"point show", "MACHINE[@POINT]", "Show a recovery point, and which blocks the source could not read for it", NULL,
        1, 1, false, verb_point_show},
    {"point create", "MACHINE", "Make a recovery point now", point_create_options, 1, 1, false, verb_point_create},
    {"point open", "MACHINE[@POINT]", "Open a recovery point; prints its NBD URI", point_open_options, 1, 1, false,
        verb_point_open},
    {"point close", "ID|URI...", "Close opened points", job_options, 1, COMMAND_ARGUMENTS_MAX, false, verb_point_close},
    {"point opened", "", "List the points that are open", all_options, 0, 0, false, verb_export_list},
    {"copy list", "MACHINE", "List the vaults that keep a copy of a machine's points, and how far each is", NULL, 1, 1,
        false, verb_copy_list},
    {"copy create", "MACHINE VAULT", "Another vault takes a machine's points over, and goes on with each new one",
        job_options, 2, 2, false, verb_copy_create},
    {"copy points", "MACHINE VAULT", "List the recovery points that a copy has", copy_points_options, 2, 2, false,
        verb_copy_points},
    {"copy use", "MACHINE VAULT", "The machine's own vault is lost: the one that has a copy takes its place",
        copy_use_options, 2, 2, false, verb_copy_use},
    {"copy remove", "MACHINE VAULT", "End a copy, and erase what that vault holds of the machine", copy_remove_options,
        2, 2, false, verb_copy_remove},
    {"failover test", "MACHINE[@POINT]", "Start a replica beside the running machine, to see that it works",
        failover_options, 1, 1, false, verb_failover_test},
    {"failover planned", "MACHINE", "Stop the machine, and start a replica of its last point instead: nothing is lost",
        failover_options, 1, 1, false, verb_failover_planned},
    {"failover unplanned", "MACHINE[@POINT]", "Start a replica instead of the machine, which is fenced from then on",
        failover_options, 1, 1, false, verb_failover_unplanned},
    {"failover preview", "MACHINE[@POINT]", "List what fix-ups would change on a replica's disks; nothing is changed",
        failover_preview_options, 1, 1, false, verb_failover_preview},
    {"failover list", "", "List failovers", NULL, 0, 0, false, verb_failover_list},
    {"failover screenshot", "FAILOVER|MACHINE FILE",
        "Write what the replica's screen shows now to a file, as PNG; -: standard output", NULL, 2, 2, false,
        verb_failover_screenshot},
    {"failover show", "FAILOVER|MACHINE", "Show a failover, with what its target says of the replica", NULL, 1, 1,
        false, verb_failover_show},
    {"failover change-point", "FAILOVER|MACHINE POINT", "Run another point, before the commit", job_options, 2, 2,
        false, verb_failover_change_point},
    {"failover commit", "FAILOVER|MACHINE", "Make the replica the machine for good", job_options, 1, 1, false,
        verb_failover_commit},
    {"failover rollback", "FAILOVER|MACHINE", "Discard the replica; the source is the machine again", job_options, 1, 1,
        false, verb_failover_rollback},
    {"failover cleanup", "FAILOVER|MACHINE", "End a test: its replica and what it wrote are discarded",
        failover_cleanup_options, 1, 1, false, verb_failover_cleanup},
    {"failover reprotect", "FAILOVER|MACHINE", "Protect the replica of a committed failover: its writes become points",
        reprotect_options, 1, 1, false, verb_failover_reprotect},
    {"failover failback", "FAILOVER|MACHINE", "Write the replica back to the original machine, which runs on then",
        failover_failback_options, 1, 1, false, verb_failover_failback},
    {"failover failback-preview", "FAILOVER|MACHINE",
        "Show what a failback would take back: since when, how much, onto which disks; nothing is changed", NULL, 1, 1,
        false, verb_failover_failback_preview},
    {"failover cancel", "MACHINE", "Cancel the failover, reprotection or failback that is under way", NULL, 1, 1, false,
        verb_failover_cancel},
    {"target list", "", "List targets: where replicas can run", NULL, 0, 0, false, verb_target_list},
    {"target show", "TARGET", "Show a target", NULL, 1, 1, false, verb_target_show},
    {"target create", "TARGET ADAPTER", "Add a target; adapters are disk, command and libvirt", target_create_options,
        2, 2, false, verb_target_create},
    {"target set", "TARGET", "Change a target", target_set_options, 1, 1, false, verb_target_set},
    {"target delete", "TARGET", "Delete a target that no failover was made to", NULL, 1, 1, false, verb_target_delete},
    {"plan list", "", "List recovery plans", NULL, 0, 0, false, verb_plan_list},
    {"plan show", "PLAN", "Show a recovery plan", NULL, 1, 1, false, verb_plan_show},
    {"plan apply", "FILE", "Add or change the plan in a YAML or JSON file (-: standard input)", NULL, 1, 1, false,
        verb_plan_apply},
    {"plan validate", "FILE", "Check the plan in a file against the hub's machines and targets", NULL, 1, 1, false,
        verb_plan_validate},
    {"plan export", "PLAN", "Print a plan as a file for version control", plan_export_options, 1, 1, false,
        verb_plan_export},
    {"plan delete", "PLAN", "Delete a recovery plan; its runs stay", NULL, 1, 1, false, verb_plan_delete},
    {"plan run", "PLAN", "Run a recovery plan; with --dry-run say what it would do, take and lose", plan_run_options, 1,
        1, false, verb_plan_run},
    {"plan runs", "[PLAN]", "List runs of recovery plans", all_runs_options, 0, 1, false, verb_plan_runs},
    {"plan report", "RUN", "Show a run: its steps, what was lost and how long it took", plan_report_options, 1, 1,
        false, verb_plan_report},
    {"plan cleanup", "RUN", "End a test: all its replicas and what they wrote are discarded", failover_cleanup_options,
        1, 1, false, verb_plan_cleanup},
    {"plan rollback", "RUN", "Discard all replicas of a run; the sources are the machines again", job_options, 1, 1,
        false, verb_plan_rollback},
    {"plan commit", "RUN", "Make all replicas of a run the machines for good", job_options, 1, 1, false,
        verb_plan_commit},
    {"drill list", "", "List drills on a schedule", NULL, 0, 0, false, verb_drill_list},
    {"drill show", "DRILL", "Show a drill", NULL, 1, 1, false, verb_drill_show},
    {"drill create", "DRILL", "Test a plan, or all machines of a policy, on a schedule", drill_create_options, 1, 1,
        false, verb_drill_create},
    {"drill set", "DRILL", "Change a drill", drill_set_options, 1, 1, false, verb_drill_set},
    {"drill delete", "DRILL", "Delete a drill; its runs stay", NULL, 1, 1, false, verb_drill_delete},
    {"drill run", "DRILL", "Start a drill now", job_options, 1, 1, false, verb_drill_run},
    {"drill machines", "", "List machines with their last good drill", drill_machines_options, 0, 0, false,
        verb_drill_machines},
    {"branch list", "", "List branches, open or kept", NULL, 0, 0, false, verb_branch_list},
    {"branch show", "BRANCH", "Show a branch", NULL, 1, 1, false, verb_branch_show},
    {"branch create", "MACHINE[@POINT]", "Make a branch of a recovery point and open it; prints its NBD URI",
        branch_create_options, 1, 1, false, verb_branch_create},
    {"branch open", "BRANCH", "Open a branch again that was closed; prints its NBD URI", branch_open_options, 1, 1,
        false, verb_branch_open},
    {"branch close", "BRANCH...", "Close branches and keep them", job_options, 1, COMMAND_ARGUMENTS_MAX, false,
        verb_branch_close},
    {"branch discard", "BRANCH...", "Remove branches with all that was written to them", job_options, 1,
        COMMAND_ARGUMENTS_MAX, false, verb_branch_discard},
    {"branch promote", "BRANCH", "Make a branch the main line of its machine; its old source is refused from then on",
        job_options, 1, 1, false, verb_branch_promote},
    {"export", "MACHINE[@POINT] DISK FILE|DEVICE", "Write a disk at a point to a file or device of the vault's host",
        export_options, 3, 3, false, verb_export_disk},
    {"job list", "", "List jobs", job_list_options, 0, 0, false, verb_job_list},
    {"job show", "JOB", "Show a job with its steps", NULL, 1, 1, false, verb_job_show},
    {"job wait", "JOB", "Wait for the end of a job", job_wait_options, 1, 1, false, verb_job_wait},
    {"job cancel", "JOB", "Ask a job to stop", NULL, 1, 1, false, verb_job_cancel},
    {"job answer", "JOB continue|abort", "Answer a job that waits for input", NULL, 2, 2, false, verb_job_answer},
    {"event list", "", "List events", event_list_options, 0, 0, false, verb_event_list},
    {"event tail", "", "Print events as they come", event_tail_options, 0, 0, false, verb_event_tail},
    {"alert list", "", "List what is wrong", alert_list_options, 0, 0, false, verb_alert_list},
    {"alert show", "ID", "Show an alert", NULL, 1, 1, false, verb_alert_show},
    {"alert ack", "ID...", "Take alerts on: nobody is told of them again unless they get worse", alert_ack_options, 1,
        COMMAND_ARGUMENTS_MAX, false, verb_alert_ack},
    {"session list", "", "List who is signed in", NULL, 0, 0, false, verb_session_list},
    {"session revoke", "ID", "End a session", NULL, 1, 1, false, verb_session_revoke},
    {"approval list", "", "List what waits for a second person", approval_list_options, 0, 0, false,
        verb_approval_list},
    {"approval show", "ID", "Show what was asked for", NULL, 1, 1, false, verb_approval_show},
    {"approval approve", "ID", "Let it be done, now: as another person than who asked", alert_ack_options, 1, 1, false,
        verb_approval_approve},
    {"approval reject", "ID", "Turn it down, or take back what you asked for", alert_ack_options, 1, 1, false,
        verb_approval_reject},
    {"channel list", "", "List where alerts go", NULL, 0, 0, false, verb_channel_list},
    {"channel show", "NAME", "Show a channel", NULL, 1, 1, false, verb_channel_show},
    {"channel create", "NAME", "Send alerts to a webhook or a mail server", channel_options, 1, 1, false,
        verb_channel_create},
    {"channel set", "NAME", "Change a channel", channel_options, 1, 1, false, verb_channel_set},
    {"channel delete", "NAME", "Delete a channel", NULL, 1, 1, false, verb_channel_delete},
    {"channel test", "NAME", "Send a test message", NULL, 1, 1, false, verb_channel_test},
    {"channel deliveries", "NAME", "List the latest messages and what became of them", NULL, 1, 1, false,
        verb_channel_deliveries},
    {"report weekly", "", "Print the report of a week", report_options, 0, 0, false, verb_report_weekly},
    {"report send", "", "Send the report of the last seven days to the channels that want it", NULL, 0, 0, false,
        verb_report_send},
    {"token create", "NAME", "Create an API token; prints it once", token_options, 1, 1, false, verb_token_create},
    {"token list", "", "List API tokens", NULL, 0, 0, false, verb_token_list},
    {"token revoke", "NAME|ID", "Revoke an API token", NULL, 1, 1, false, verb_token_revoke},
    {"enrol-token create", "[agent|node|vault]", "Create a one-time token with which a daemon enrols; prints it once",
        enrol_options, 0, 1, false, verb_enrol_token_create},
    {"enrol-token list", "", "List enrolment tokens", NULL, 0, 0, false, verb_enrol_token_list},
    {"enrol-token revoke", "ID", "Revoke an enrolment token that was not used", NULL, 1, 1, false,
        verb_enrol_token_revoke},
    {"user list", "", "List users", NULL, 0, 0, false, verb_user_list},
    {"user show", "USER", "Show a user", NULL, 1, 1, false, verb_user_show},
    {"user create", "NAME", "Create a user; prints the first password once", user_create_options, 1, 1, false,
        verb_user_create},
    {"user set", "USER", "Change role or name of a user, disable one, reset a password", user_set_options, 1, 1, false,
        verb_user_set},
    {"user delete", "USER", "Remove a user with sessions and tokens", NULL, 1, 1, false, verb_user_delete},
    {"audit list", "", "List who did what, the newest first", audit_options, 0, 0, false, verb_audit_list},
    {"audit verify", "", "Walk the chain of the audit log, and say where it is broken", NULL, 0, 0, false,
        verb_audit_verify},
    {"settings show", "", "Show the settings of the hub: all there are, and what each is", NULL, 0, 0, false,
        verb_settings_show},
    {"settings set", "KEY VALUE", "Change a setting of the hub", NULL, 2, 2, false, verb_settings_set},
    {"settings reset", "KEY...", "Take settings of the hub back to their defaults", NULL, 1, COMMAND_ARGUMENTS_MAX,
        false, verb_settings_reset},
    {"api", "METHOD PATH", "Send any request to the API and print the answer", api_options, 2, 2, false, verb_api},
    {"complete", "-- WORD...", "What could stand in place of the last word; for completion scripts", NULL, 0,
        COMMAND_ARGUMENTS_MAX, true, verb_complete},
    {"help", "[COMMAND...]", "List all commands, or explain one", help_options, 0, 3, true, verb_help},
    {"completion", "bash|zsh", "Print the completion script of a shell", NULL, 1, 1, true, verb_completion},
};
const size_t command_count = sizeof(commands) / sizeof(commands[0]);
