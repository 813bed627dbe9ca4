# Build conventions shared by all modules: language, warnings, sanitizers, and the three kinds of targets.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(BITSTRATA_CCACHE ccache)
if(BITSTRATA_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${BITSTRATA_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${BITSTRATA_CCACHE})
endif()

# The arithmetic of docs/arithmetic.md rounds after every float operation: no contraction to fused multiply-add.
add_compile_options(-Wall -Wextra -Wpedantic -Wshadow -Wno-unused-parameter -ffp-contract=off)
if(BITSTRATA_SANITIZE)
  add_compile_options(-fsanitize=${BITSTRATA_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${BITSTRATA_SANITIZE})
endif()

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
if(BITSTRATA_OPENMP)
  find_package(OpenMP REQUIRED)
endif()

# bitstrata_add_folder(FOLDER): add_subdirectory of a folder that has a CMakeLists.txt.
macro(bitstrata_add_folder folder)
  if(EXISTS ${PROJECT_SOURCE_DIR}/${folder}/CMakeLists.txt)
    add_subdirectory(${PROJECT_SOURCE_DIR}/${folder} ${PROJECT_BINARY_DIR}/${folder})
  endif()
endmacro()

# bitstrata_library(NAME SOURCES ... [PUBLIC libs...] [PRIVATE libs...]): the module src/NAME as bitstrata::NAME.
function(bitstrata_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(bitstrata_${name} STATIC ${ARG_SOURCES})
  add_library(bitstrata::${name} ALIAS bitstrata_${name})
  target_include_directories(bitstrata_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(bitstrata_${name} PUBLIC ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
endfunction()

# bitstrata_runtime_library(): all runtime modules in one library to embed: libbitstrata.so, which shows the C interface and nothing else, and
# libbitstrata.a of the same objects. BITSTRATA_ARCHIVE_NEEDS lists the libraries that a program with the archive links besides.
function(bitstrata_runtime_library)
  set(modules "")
  set(objects "")
  foreach(module IN LISTS BITSTRATA_RUNTIME_MODULES)
    list(APPEND modules bitstrata_${module})
    list(APPEND objects $<TARGET_OBJECTS:bitstrata_${module}>)
  endforeach()
  set(exports ${PROJECT_SOURCE_DIR}/src/capi/exports.map)
  add_library(bitstrata_shared SHARED ${objects})
  add_library(bitstrata::bitstrata ALIAS bitstrata_shared)
  # The objects hold every symbol already; the modules bring the libraries that they link.
  target_link_libraries(bitstrata_shared PRIVATE ${modules})
  target_link_options(bitstrata_shared PRIVATE -Wl,--as-needed -Wl,--version-script=${exports})
  if(NOT BITSTRATA_SANITIZE)
    target_link_options(bitstrata_shared PRIVATE -Wl,--no-undefined)
  endif()
  set_target_properties(bitstrata_shared PROPERTIES OUTPUT_NAME bitstrata EXPORT_NAME bitstrata VERSION ${PROJECT_VERSION}
                                                    SOVERSION 0 LINK_DEPENDS ${exports})

  add_library(bitstrata_archive STATIC ${objects})
  add_library(bitstrata::bitstrata_static ALIAS bitstrata_archive)
  # Names, not targets: who finds the archive need not find these as CMake packages.
  set(needs fmt hwy dnnl zstd)
  if(BITSTRATA_OPENMP)
    list(APPEND needs ${OpenMP_CXX_LIB_NAMES})
  endif()
  list(APPEND needs stdc++ m)
  target_link_libraries(bitstrata_archive INTERFACE ${needs})
  set(BITSTRATA_ARCHIVE_NEEDS ${needs} PARENT_SCOPE)
  set_target_properties(bitstrata_archive PROPERTIES OUTPUT_NAME bitstrata EXPORT_NAME bitstrata_static
                                                     ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_LIBRARY_OUTPUT_DIRECTORY})
  foreach(library IN ITEMS bitstrata_shared bitstrata_archive)
    target_include_directories(${library} INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                                    $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include>)
  endforeach()
endfunction()

# bitstrata_test(NAME SOURCES ... [LIBS ...] [LABELS ...]): one GoogleTest binary; every case becomes a ctest case.
function(bitstrata_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS;LABELS" ${ARGN})
  find_package(GTest REQUIRED)
  include(GoogleTest)
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LIBS} GTest::gtest GTest::gmock GTest::gtest_main)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(${name} PRIVATE BITSTRATA_SOURCE_DIR="${PROJECT_SOURCE_DIR}" BITSTRATA_BINARY_DIR="${CMAKE_BINARY_DIR}")
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 120 DISCOVERY_MODE PRE_TEST PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 600
                       ENVIRONMENT BITSTRATA_KERNEL_TIMES=off)
endfunction()
