/* build.h - which program this is: its version and the hash of the running executable. Results are promised to repeat
 * for the same build only, so they carry this text. */
#ifndef OC_BASE_BUILD_H
#define OC_BASE_BUILD_H

const char *oc_build_text(void); /* "0.1.0+0123456789abcdef"; computed once, never fails: "0.1.0+unknown" */

#endif
