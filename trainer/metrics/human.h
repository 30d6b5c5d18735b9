// Figures and texts for people: short enough for a column or an axis, safe on a page.
#ifndef JEVONS_TRAINER_METRICS_HUMAN_H_
#define JEVONS_TRAINER_METRICS_HUMAN_H_

#include <string>

namespace jevons {

// Three digits and a decimal prefix: "12.3K"; K, M, B, T, and beyond them "1.25e+16".
std::string ShortNumber(double value);

// As it stands in HTML and SVG, between tags and in attributes.
std::string EscapedMarkup(const std::string& text);

// "42s", "12m05s", "2h14m", "56d14h", "1900d"
std::string ShortDuration(double seconds);

}  // namespace jevons

#endif  // JEVONS_TRAINER_METRICS_HUMAN_H_
