# Debian packages, made in a build folder by `cpack`: libbitstrata0, libbitstrata-dev, and of a whole build bitstrata, bitstrata-train
# (apart, because LibTorch is hundreds of megabytes that running networks does not need) and python3-bitstrata.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "the bitstrata authors <bitstrata@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "")  # would stand before each package's own
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY ">=")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)

# bitstrata_package(COMPONENT NAME SECTION "One line" "More" [DEPENDS ...] [RECOMMENDS ...])
macro(bitstrata_package component name section summary description)
  cmake_parse_arguments(package "" "" "DEPENDS;RECOMMENDS" ${ARGN})
  string(TOUPPER ${component} upper)
  list(APPEND CPACK_COMPONENTS_ALL ${component})
  set(CPACK_DEBIAN_${upper}_PACKAGE_NAME ${name})
  set(CPACK_DEBIAN_${upper}_PACKAGE_SECTION ${section})
  set(CPACK_DEBIAN_${upper}_DESCRIPTION "${summary}\n${description}")
  set(CPACK_DEBIAN_${upper}_PACKAGE_DEPENDS "${package_DEPENDS}")
  set(CPACK_DEBIAN_${upper}_PACKAGE_RECOMMENDS "${package_RECOMMENDS}")
  install(FILES packaging/copyright DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/doc/${name} COMPONENT ${component})
endmacro()

bitstrata_package(runtime libbitstrata0 libs "runtime for low-bit neural networks"
                  "Runs packed networks (model.bst) of 1 to 8 bits per weight and activation on CPUs.")
bitstrata_package(development libbitstrata-dev libdevel "runtime for low-bit neural networks - development files"
                  "C and C++ headers, a CMake package, a pkg-config file and examples." DEPENDS "libbitstrata0 (= ${PROJECT_VERSION})")
if(TARGET bitstrata)
  bitstrata_package(tools bitstrata science "learns, packs and runs low-bit neural networks"
                    "The program that runs, measures, explains and exports packed networks." RECOMMENDS "bitstrata-train (= ${PROJECT_VERSION})")
endif()
if(TARGET bitstrata-train)
  bitstrata_package(training bitstrata-train science "learns, packs and runs low-bit neural networks - training"
                    "The commands of bitstrata that train networks; needs LibTorch." DEPENDS "bitstrata (= ${PROJECT_VERSION})")
endif()
if(TARGET bitstrata_python)
  bitstrata_package(python python3-bitstrata python "runtime for low-bit neural networks - Python 3 module"
                    "Runs packed networks on NumPy arrays." DEPENDS "libbitstrata0 (= ${PROJECT_VERSION}), python3, python3-numpy")
  # The library is in another package of the same build.
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR}/lib)
endif()
include(CPack)
