# SPDX-License-Identifier: Apache-2.0
#
# How a folder of this project becomes a target:
#   leeward_library(leeward_base SOURCES err.c ... DEPENDS PkgConfig::XXHASH ... [CONVERSION])
#   leeward_program(leeward-vault SOURCES main.c DEPENDS leeward_vault)
#   leeward_unit_test(base_buf SOURCES buf_test.c DEPENDS leeward_base)     one CMocka program, run by ctest with label unit
# CONVERSION adds -Wconversion.
#   leeward_may_be_static(PkgConfig::LIBBPF elf z)     after pkg_check_modules: the archives of a package, and what these need besides
#   set_target_properties(leeward-agent PROPERTIES LEEWARD_STATIC ON)     this program takes archives wherever there are some
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

add_library(leeward_flags INTERFACE)
target_include_directories(leeward_flags INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/generated)
target_compile_definitions(leeward_flags INTERFACE _GNU_SOURCE LEEWARD_VERSION="${PROJECT_VERSION}")
target_compile_options(leeward_flags INTERFACE -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes
    -Wpointer-arith -Wvla -fno-strict-aliasing -fstack-protector-strong)
target_link_libraries(leeward_flags INTERFACE Threads::Threads)
if(LEEWARD_SANITIZE)
    # GCC's flow analyses misjudge instrumented code (its manual says so); the plain build has them on.
    target_compile_options(leeward_flags INTERFACE -fsanitize=address,undefined -fno-omit-frame-pointer
        -fno-sanitize-recover=undefined
        $<$<C_COMPILER_ID:GNU>:-Wno-restrict;-Wno-format-truncation;-Wno-maybe-uninitialized>)
    target_link_options(leeward_flags INTERFACE -fsanitize=address,undefined)
else()
    if(LEEWARD_TSAN)
        target_compile_options(leeward_flags INTERFACE -fsanitize=thread -fno-omit-frame-pointer)
        target_link_options(leeward_flags INTERFACE -fsanitize=thread)
    endif()
    target_compile_options(leeward_flags INTERFACE $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2>)
endif()

if(LEEWARD_FUZZ) # coverage feedback from the libraries; the targets themselves link the engine (tests/fuzz)
    target_compile_options(leeward_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

function(leeward_library name)
    cmake_parse_arguments(ARG "CONVERSION" "" "SOURCES;DEPENDS" ${ARGN})
    add_library(${name} STATIC ${ARG_SOURCES})
    target_link_libraries(${name} PUBLIC leeward_flags ${ARG_DEPENDS})
    if(ARG_CONVERSION)
        target_compile_options(${name} PRIVATE -Wconversion)
    endif()
endfunction()

function(leeward_program name)
    cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
    add_executable(${name} ${ARG_SOURCES})
    target_link_libraries(${name} PRIVATE leeward_flags ${ARG_DEPENDS})
endfunction()

# The agent goes to machines of other distributions: it takes with it what these have in other versions or not at all.
function(leeward_may_be_static package)
    set(more)
    foreach(name IN LISTS ARGN)
        find_library(LEEWARD_ARCHIVE_${name} NAMES lib${name}.a)
        list(APPEND more "$<$<BOOL:$<TARGET_PROPERTY:LEEWARD_STATIC>>:$<$<BOOL:${LEEWARD_ARCHIVE_${name}}>:${LEEWARD_ARCHIVE_${name}}>>")
    endforeach()
    get_target_property(libraries ${package} INTERFACE_LINK_LIBRARIES)
    set(either)
    foreach(library IN LISTS libraries)
        string(REGEX REPLACE "\\.so$" ".a" archive "${library}")
        if(NOT archive STREQUAL library AND EXISTS "${archive}")
            list(APPEND either "$<IF:$<BOOL:$<TARGET_PROPERTY:LEEWARD_STATIC>>,${archive},${library}>")
        else()
            list(APPEND either "${library}")
        endif()
    endforeach()
    set_property(TARGET ${package} PROPERTY INTERFACE_LINK_LIBRARIES ${either} ${more})
endfunction()

pkg_check_modules(CMOCKA IMPORTED_TARGET cmocka)

# LONG: it takes more than half a minute, and begins before the others.
function(leeward_unit_test name)
    cmake_parse_arguments(ARG "LONG" "" "SOURCES;DEPENDS" ${ARGN})
    if(NOT BUILD_TESTING OR NOT CMOCKA_FOUND)
        return()
    endif()
    add_executable(test_${name} ${ARG_SOURCES})
    target_link_libraries(test_${name} PRIVATE leeward_flags ${ARG_DEPENDS} PkgConfig::CMOCKA)
    target_compile_definitions(test_${name} PRIVATE TEST_SOURCE_DIR="${CMAKE_CURRENT_SOURCE_DIR}")
    set_target_properties(test_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME unit.${name} COMMAND test_${name})
    set_tests_properties(unit.${name} PROPERTIES LABELS unit TIMEOUT 600)
    if(ARG_LONG)
        set_tests_properties(unit.${name} PROPERTIES COST 100)
    endif()
endfunction()
