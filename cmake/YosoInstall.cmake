# Installs the operators for find_package(yoso), which gives yoso::ops and needs no LibTorch. The
# program and the library of torch operators run from the build folder: they link one LibTorch.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(installed cpu ops)
if(YOSO_CUDA)
  list(APPEND installed cuda)
endif()
foreach(layer ${installed})
  set_target_properties(yoso_${layer} PROPERTIES EXPORT_NAME ${layer})
  target_compile_features(yoso_${layer} PUBLIC cxx_std_20)
endforeach()
list(TRANSFORM installed PREPEND yoso_)
install(TARGETS ${installed} EXPORT yoso)
install(DIRECTORY yoso/core yoso/cpu yoso/cuda yoso/ops DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/yoso
        FILES_MATCHING PATTERN "*.h"
        PATTERN "*testing.h" EXCLUDE
        PATTERN "core/file.h" EXCLUDE
        PATTERN "core/json_fields.h" EXCLUDE)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/yoso)
install(EXPORT yoso NAMESPACE yoso:: FILE yosoTargets.cmake DESTINATION ${package_dir})
write_basic_package_version_file(yosoConfigVersion.cmake COMPATIBILITY SameMinorVersion)
configure_file(cmake/yosoConfig.cmake.in yosoConfig.cmake @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/yosoConfig.cmake ${PROJECT_BINARY_DIR}/yosoConfigVersion.cmake
        DESTINATION ${package_dir})
