# Looks for NCCL where there is CUDA, and says what was found. Sets JEVONS_HAS_NCCL and nccl_source: the transport, or what
# stands in its place. The library is loaded when it is first asked for; its path here is where to look last.
set(JEVONS_HAS_NCCL OFF)
set(nccl_source comm/nccl_absent.cc)
if(NOT JEVONS_HAS_CUDA)
  message(STATUS "NCCL: left out, it needs CUDA")
else()
  find_path(JEVONS_NCCL_INCLUDE nccl.h HINTS $ENV{NCCL_HOME}/include ${CUDAToolkit_INCLUDE_DIRS}
            DOC "the folder of nccl.h")
  find_library(JEVONS_NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS $ENV{NCCL_HOME}/lib ${CUDAToolkit_LIBRARY_DIR}
               ${CUDAToolkit_LIBRARY_DIR}/../lib ${CUDAToolkit_LIBRARY_ROOT}/lib DOC "the NCCL library")
  if(NOT JEVONS_NCCL_INCLUDE)
    message(STATUS "NCCL: left out, no nccl.h; set NCCL_HOME to NCCL's folder")
  elseif(NOT JEVONS_NCCL_LIBRARY)
    message(STATUS "NCCL: left out, no libnccl; set NCCL_HOME to NCCL's folder")
  else()
    set(JEVONS_HAS_NCCL ON)
    set(nccl_source comm/nccl_library.cc)
    message(STATUS "NCCL: ${JEVONS_NCCL_LIBRARY}")
    set_source_files_properties(comm/nccl_library.cc PROPERTIES
      INCLUDE_DIRECTORIES "${JEVONS_NCCL_INCLUDE};${CUDAToolkit_INCLUDE_DIRS}"
      COMPILE_DEFINITIONS "JEVONS_NCCL_LIBRARY=\"${JEVONS_NCCL_LIBRARY}\"")
  endif()
endif()
