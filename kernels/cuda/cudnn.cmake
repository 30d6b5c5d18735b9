# Looks for the headers of cuDNN and of its frontend (wheel nvidia-cudnn-frontend); launch/setup.sh puts the latter under .cache.
# Nothing is linked: the library is opened when the program first needs it. Sets JEVONS_CUDNN_SOURCE to what stands for attention,
# and JEVONS_HAS_CUDNN.
find_package(Python3 QUIET COMPONENTS Interpreter)
set(jevons_site_packages)
if(Python3_FOUND)
  execute_process(COMMAND ${Python3_EXECUTABLE} -c "import sysconfig; print(sysconfig.get_path('purelib'))"
                  OUTPUT_VARIABLE jevons_site_packages OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
find_path(CUDNN_FRONTEND_INCLUDE cudnn_frontend.h
  HINTS ${PROJECT_SOURCE_DIR}/.cache/cudnn-frontend/include ${jevons_site_packages}/include
        ${jevons_site_packages}/nvidia/cudnn_frontend/include
  DOC "folder of cudnn_frontend.h")
find_path(JEVONS_CUDNN_INCLUDE cudnn.h HINTS ${JEVONS_CUDA_INCLUDE} ${jevons_site_packages}/nvidia/cudnn/include
          DOC "folder of cudnn.h")
if(CUDNN_FRONTEND_INCLUDE AND JEVONS_CUDNN_INCLUDE)
  message(STATUS "CUDA: attention by cuDNN, frontend headers in ${CUDNN_FRONTEND_INCLUDE}")
  set(JEVONS_HAS_CUDNN ON CACHE INTERNAL "attention can go to cuDNN")
  set(JEVONS_CUDNN_SOURCE cuda/attention_cudnn.cc cuda/attention_graph.cc)
  # Headers of others are many and heavy: one file sees them, without the warnings that ours must not have.
  set_source_files_properties(cuda/attention_graph.cc PROPERTIES COMPILE_OPTIONS
    "-isystem;${CUDNN_FRONTEND_INCLUDE};-isystem;${JEVONS_CUDNN_INCLUDE};-O1;-Wno-error")
else()
  message(STATUS "CUDA: attention by plain kernels alone, slow: no cudnn_frontend.h (pip download nvidia-cudnn-frontend) or no cudnn.h")
  set(JEVONS_HAS_CUDNN OFF CACHE INTERNAL "attention can go to cuDNN")
  set(JEVONS_CUDNN_SOURCE cuda/attention_no_cudnn.cc)
endif()
