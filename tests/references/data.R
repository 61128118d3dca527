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

# Of the gallery.
data("RecreationDemand", package = "AER")
write(with(RecreationDemand, data.frame(trips, quality, ski = 1 * (ski == "yes"), income, userfee = 1 * (userfee == "yes"),
                                        costC, costS, costH)), "recreation")

data("TravelMode", package = "AER")
write(with(TravelMode, data.frame(person = as.integer(as.character(individual)), mode, chosen = 1 * (choice == "yes"),
                                  wait, gcost, income)), "travel")

data("venice", package = "evd")
venice <- as.data.frame(venice)
names(venice) <- paste0("r", 1:10)
write(cbind(year = as.integer(rownames(venice)), venice), "venice")

data("Alligator", package = "vcdExtra")
write(setNames(Alligator[c("lake", "size", "food", "count")], c("lake", "size", "food", "count")), "alligators")

channing <- subset(boot::channing, exit > entry)
write(with(channing, data.frame(male = 1 * (sex == "Male"), entry, exit, died = cens)), "channing")

data("Electricity1970", package = "AER")
write(with(Electricity1970, data.frame(cost, output, labor, capital, fuel)), "electricity")

write(data.frame(level = as.numeric(lh)), "lh")
