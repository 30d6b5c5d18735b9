# Writes OUTPUT, a header with the revision of SOURCE, where it has changed: so that one small file alone is compiled again.
cmake_minimum_required(VERSION 3.25)
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=10 --exclude=*
                OUTPUT_VARIABLE revision OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#define JEVONS_REVISION \"${revision}\"\n" @ONLY)
