// What Swift sees of libyaml.
#include <yaml.h>
