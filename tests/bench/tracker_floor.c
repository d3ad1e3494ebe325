/* SPDX-License-Identifier: Apache-2.0
 *
 * Attaches programs that do nothing (tracker_floor.bpf.c) to the tracker's events, writes their ids to standard output, and takes them away
 * when its standard input ends.     tracker_floor OBJECT
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdio.h>
#include <unistd.h>

static int attach(struct bpf_program *program)
{
    struct bpf_prog_info info = {0};
    unsigned size = sizeof(info);

    if (!bpf_program__attach(program) || bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) < 0)
        return -1;
    printf("%u\n", info.id);
    return 0;
}

int main(int argc, char **argv)
{
    struct bpf_object *object = argc == 2 ? bpf_object__open(argv[1]) : NULL;
    struct bpf_program *program;
    char c;

    if (!object || bpf_object__load(object) < 0) {
        fprintf(stderr, "tracker_floor: the programs could not be loaded\n");
        return 1;
    }
    bpf_object__for_each_program(program, object) if (attach(program) < 0)
    {
        fprintf(stderr, "tracker_floor: the programs could not be attached\n");
        return 1;
    }
    (void)fclose(stdout);
    while (read(0, &c, 1) > 0)
        continue;
    return 0; /* the links end with the process */
}
