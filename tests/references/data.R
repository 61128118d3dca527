# Writes those of the examples' data sets that come with R or its recommended packages.
write <- function(x, name) write.csv(x, file.path("examples", "data", paste0(name, ".csv")), row.names = FALSE, quote = FALSE)

heights <- na.omit(data.frame(height = MASS::survey$Height, sex = tolower(as.character(MASS::survey$Sex))))
write(heights, "heights")

birthwt <- MASS::birthwt
birthwt$race <- c("white", "black", "other")[birthwt$race]
write(birthwt, "birthwt")

lung <- na.omit(with(survival::lung, data.frame(inst, time, event = status - 1, age, female = sex - 1, ph_ecog = ph.ecog)))
write(lung, "lung")

write(data.frame(breaks = warpbreaks$breaks, wool_b = 1 * (warpbreaks$wool == "B"),
                 tension_m = 1 * (warpbreaks$tension == "M"), tension_h = 1 * (warpbreaks$tension == "H")), "warpbreaks")

housing <- MASS::housing
names(housing) <- c("satisfaction", "influence", "type", "contact", "count")
for (v in names(housing)[1:4]) housing[[v]] <- tolower(as.character(housing[[v]]))
write(housing, "housing")

write(data.frame(eruptions = faithful$eruptions, waiting = faithful$waiting), "faithful")

write(subset(MASS::ships, service > 0), "ships")

road <- MASS::road
write(data.frame(state = rownames(road), road), "road")

write(datasets::cars, "cars")
