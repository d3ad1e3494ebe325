# SPDX-License-Identifier: Apache-2.0
#
# cmake -DOUT=FILE -DDIR=migrations -P embed.cmake: writes the migrations as one C table (hub/db/migrate.h).
file(GLOB files ${DIR}/*.sql)
list(SORT files)
set(text "/* Generated from migrations/. */\n#include \"hub/db/migrate.h\"\n\n")
set(rows "")
foreach(file IN LISTS files)
    get_filename_component(name ${file} NAME_WE)
    string(REGEX MATCH "^[0-9][0-9][0-9][0-9]" number ${name})
    math(EXPR number "1${number} - 10000")
    file(READ ${file} hex HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    string(APPEND text "static const char sql_${number}[] = {${bytes}0};\n")
    string(APPEND rows "    {${number}, \"${name}\", sql_${number}},\n")
endforeach()
string(APPEND text "\nconst struct migration migrations_embedded[] = {\n${rows}    {0, 0, 0},\n};\n")
file(WRITE ${OUT} "${text}")
