# R, sans aucun paquet : la population municipale d'un département, lue dans un CSV sorti par « dk export ».
#
#   dk export fct_observation --out population.csv --where "indicateur_id = 'population_municipale' and territoire_niveau = 'departement' and est_derniere_version"
#   Rscript notebooks/exemples/courbe.R population.csv 23
#
# colClasses garde les zéros de tête des codes (01, 2A). Les Parquet de la publication se lisent aussi tels quels, avec le
# paquet nanoparquet (read_parquet), arrow ou duckdb (1.0 ou plus récent, read_only = TRUE).

arguments <- commandArgs(trailingOnly = TRUE)
fichier <- arguments[1]
departement <- arguments[2]

lignes <- read.csv(fichier, encoding = "UTF-8", colClasses = c(territoire_code = "character"), na.strings = "")
serie <- lignes[lignes$territoire_code == departement, c("periode_debut", "valeur", "statut_valeur")]
serie <- serie[order(serie$periode_debut), ]
serie$evolution <- c(NA, round(100 * diff(serie$valeur) / head(serie$valeur, -1), 2))

# Ce que chaque colonne veut dire est dans le fichier voisin.
dictionnaire <- read.csv(sub("\\.csv$", "_dictionnaire.csv", fichier), encoding = "UTF-8")
cat(dictionnaire$texte[dictionnaire$nom == "Citation"], "\n")
cat(dictionnaire$texte[dictionnaire$nom == "valeur"], "\n")
write.csv(serie, row.names = FALSE)
