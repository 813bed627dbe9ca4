# What is installed, in four components: runtime (the library), development (headers, archive, CMake package, pkg-config), tools and training (the
# two programs, by the lists in apps/), python (by python/).
include(CMakePackageConfigHelpers)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/bitstrata)
set(pc_folder ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
set(doc_folder ${CMAKE_INSTALL_DATAROOTDIR}/doc)

install(TARGETS bitstrata_shared bitstrata_archive EXPORT bitstrataTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT development
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

install(FILES include/bitstrata/bitstrata.h include/bitstrata/bitstrata.hpp ${PROJECT_BINARY_DIR}/include/bitstrata/version.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/bitstrata COMPONENT development)

install(EXPORT bitstrataTargets NAMESPACE bitstrata:: DESTINATION ${package_folder} COMPONENT development)
configure_package_config_file(cmake/bitstrataConfig.cmake.in ${PROJECT_BINARY_DIR}/bitstrataConfig.cmake
                              INSTALL_DESTINATION ${package_folder})
# Until 1.0 a minor version may break what used the one before (docs/versioning.md).
write_basic_package_version_file(${PROJECT_BINARY_DIR}/bitstrataConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/bitstrataConfig.cmake ${PROJECT_BINARY_DIR}/bitstrataConfigVersion.cmake
        DESTINATION ${package_folder} COMPONENT development)

# The way from the .pc file to the prefix is written into it, so that an unpacked copy works anywhere.
file(RELATIVE_PATH BITSTRATA_PC_TO_PREFIX /${pc_folder} /)
string(REGEX REPLACE "/$" "" BITSTRATA_PC_TO_PREFIX ${BITSTRATA_PC_TO_PREFIX})
list(TRANSFORM BITSTRATA_ARCHIVE_NEEDS PREPEND -l OUTPUT_VARIABLE BITSTRATA_PC_PRIVATE)
list(JOIN BITSTRATA_PC_PRIVATE " " BITSTRATA_PC_PRIVATE)
foreach(name IN ITEMS bitstrata bitstrata-static)
  configure_file(cmake/${name}.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${pc_folder} COMPONENT development)
endforeach()

install(DIRECTORY examples/ DESTINATION ${doc_folder}/libbitstrata-dev/examples COMPONENT development)
install(FILES docs/embedding.md docs/versioning.md DESTINATION ${doc_folder}/libbitstrata-dev COMPONENT development)
install(FILES README.md DESTINATION ${doc_folder}/bitstrata COMPONENT tools)
install(DIRECTORY docs DESTINATION ${doc_folder}/bitstrata COMPONENT tools FILES_MATCHING PATTERN "*.md")
