"""Statistical secrecy (rule R-SEC): which cells a public release must leave out, and the proof that it is enough.

A table is a system of additive relations over cells (part to whole, département to région to nation, year to cumulated
period, numerator and complement to denominator, what is part of what). Cells that a rule finds sensitive are hidden
(``_sensibles``); others must be hidden with them, or a subtraction gives them back. The method is cell suppression by linear
programming: the incremental heuristic of Kelly, Golden and Assad (1992), as extended to any linear system by Cox (1995) and
Castro (2007), solved with HiGHS, which scipy ships. Each hidden cell ends with a certificate: two tables that agree with all
that is published, whose other cells are not negative (and are whole, for counts), in which the cell is ``haut`` above and
``bas`` below its true value. A solver's answer is a certificate only once it was rounded and holds to the last unit.

Certificates are looked for by part of the table, as one of them holds for the whole: many at once by one program per part
(``_prouver``), then what must be hidden for the others, at a price that rises round by round, then the last ones one by one
(``_chercher``), and where a declared effort is spent, all around them is hidden (``_fermer``). So it ends, whatever the table.

Earlier public releases are part of what is published. What a cell showed once stays known; one that was hidden and kept its
value stays hidden, with the interval that its first release proved, whatever totals come later; a value that changed is a
cell of its own, tied to the totals of its own release.

No library did it as a whole. On PyPI, ``pytauargus`` 0.6 (a beta of the τ-Argus engine, on HiGHS as well) protects one
hierarchical table at a time (OPT, MOD): neither tables linked by ratios and part-whole relations between measures, nor
cells that an earlier release gave away with the tables they stood in; ``piargus`` drives a τ-Argus program that it does
not hold; ``ssbkonf`` and ``rtauargus`` need R. So the solver is theirs and the system is ours.

This module is pure: arrays and frames in, arrays and frames out. ``orchestration.diffusion`` applies it to a release.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    from scipy.sparse import csr_matrix

TOLERANCE = 1e-6
EGALITE = 1e-4  # sums are rounded at the fourth decimal
BLOC = 6_000  # columns solved in one call of HiGHS: a call costs milliseconds, and independent systems share one
NOEUDS = 200  # branches of a search in whole numbers: a bound that does not depend on the clock
PASSES = 6  # programs on a part of the table, one after the other
TOURS = 4  # times that more is hidden to prove all at once
PEU = 100  # proofs still to find, under which each is looked for by itself
EFFORT = 1_000_000  # columns of the programs that look for one proof each: a bound that does not depend on the clock
PORTEES = (
    (2, False),
    (3, False),
    (4, False),
    (5, False),
    (4, True),
    (None, False),
    (None, True),
)  # how far they look, whole units or not
ENTIERS = 3_000  # columns of a search in whole units
ENJEU = 200.0  # what proving a cell is worth at first, against the cost of hiding others; three times that in each round after
CHER = 1_000.0  # cost of what a proof hides above which a better one is looked for further away
CACHEE = 0.01  # cost of moving a cell that is hidden already, against 1 and more to hide one


@dataclass(frozen=True)
class Probleme:
    """A system of additive relations and what is known of it. All arrays have one entry per cell.

    ``lignes`` (relations × cells, sparse): for any two tables that agree with what is published, the differences of
    their cells, weighted by a relation, add up to zero. ``valeur``: how far down a cell may go: its true value when it
    cannot be negative, infinity when it can; in the unit of the protection. ``entier``: the cell is a count. ``connu``: the attacker already has it; hiding it is vain. ``cache``: not
    shown. ``haut`` and ``bas``: how far above and below its value the cell must stay possible once hidden; 0 asks
    for nothing. ``cout``: what hiding a shown cell costs to readers. ``periode``: label of the cell's period; ``fin``: it is
    of the finest level; both only say where to look first.
    """

    lignes: csr_matrix
    valeur: np.ndarray
    entier: np.ndarray
    connu: np.ndarray
    cache: np.ndarray
    haut: np.ndarray
    bas: np.ndarray
    cout: np.ndarray
    periode: np.ndarray
    fin: np.ndarray


@dataclass
class Protection:
    """What ``proteger`` found: hidden cells, those of them whose certificates failed, and what it took."""

    cache: np.ndarray
    sans_preuve: np.ndarray
    appels: int = 0
    tours: int = 0


class _Etat:
    """The running state: what is hidden, and which (direction, cell) pairs are proved; direction 0 is upwards."""

    def __init__(self, probleme: Probleme) -> None:
        self.p = probleme
        self.lignes, self.colonnes = probleme.lignes.tocsr(), probleme.lignes.tocsc()
        self.n = len(probleme.valeur)
        self.cache = probleme.cache.copy()
        self.exige = np.vstack([probleme.haut, probleme.bas])
        self.prouve = np.zeros((2, self.n), dtype=bool)
        self.impossible = np.zeros((2, self.n), dtype=bool)
        self.appels = self.tours = self.effort = 0
        self.enjeu = ENJEU
        self.systeme = np.full(self.n, -1)
        inconnues = np.flatnonzero(~probleme.connu)
        self.systeme[inconnues], _ = _composantes(self.lignes, inconnues)
        self.vues = self._vues()

    def _vues(self) -> list[np.ndarray]:
        """Parts of the table in which proofs are looked for, one after the other (masks). Of the systems that tie more than two
        periods: the finest level, which falls apart where totals stand still, then two periods at a time; and all the others.

        What a part of the table proves is proved, whatever the rest is worth. Programs are small, and in two periods, where
        what one gains the other loses, their solutions are mostly whole.
        """
        periode, inconnue = self.p.periode, ~self.p.connu
        paires = np.unique(np.column_stack([self.systeme[inconnue], periode[inconnue]]), axis=0)
        combien = np.bincount(paires[:, 0], minlength=int(self.systeme.max(initial=-1)) + 1)
        grand = inconnue.copy()
        grand[inconnue] = combien[self.systeme[inconnue]] > 2
        presentes = np.unique(periode[grand])
        deux = [grand & ((periode == a) | (periode == b)) for i, a in enumerate(presentes) for b in presentes[i + 1 :]]
        return [inconnue & ~grand, grand & self.p.fin, *deux]

    def a_prouver(self) -> np.ndarray:
        return (self.exige > 0) & ~self.prouve & ~self.impossible & (self.cache & ~self.p.connu)[None, :]


def proteger(probleme: Probleme) -> Protection:
    """Hides the cells that must be, beyond those of ``probleme.cache``, until every hidden cell is proved.

    Deterministic, and bounded whatever the table: what many rounds on all cells leave is looked for cell by cell, up to a
    declared effort, and around what is left then everything is hidden. ``sans_preuve`` names the hidden cells for which no
    proof was found even so: those that the attacker had before (``connu``) are the cause.
    """
    etat = _Etat(probleme)
    _completer(etat)
    for _ in range(TOURS):
        _prouver_tout(etat)
        if np.count_nonzero(etat.a_prouver()) <= PEU:
            break
        etat.tours += 1
        for vue in etat.vues:
            _prouver(etat, vue, en_masquant=True)
        etat.enjeu *= 3
        _completer(etat)
    _prouver_tout(etat)
    while etat.a_prouver().any() and etat.effort < EFFORT:
        _chercher(etat)
        _completer(etat)
        _prouver_tout(etat)
    for pas in (1, 2, 4, None):
        if not (reste := etat.a_prouver()).any():
            break
        _fermer(etat, np.flatnonzero(reste.any(axis=0)), pas)
    sans_preuve = (etat.impossible | etat.a_prouver()).any(axis=0) | (
        (etat.exige > 0).any(axis=0) & etat.cache & probleme.connu
    )
    return Protection(etat.cache, sans_preuve, etat.appels, etat.tours)


def _prouver_tout(etat: _Etat) -> None:
    for vue in etat.vues:
        _prouver(etat, vue)


# --- proofs, and what must be hidden for them ---------------------------------------------------------------------


@dataclass
class _Reduit:
    """Cells as classes that move together: relations between classes, how far each may move by its own bounds (counts by
    whole units), and what a unit of movement costs: what the shown cells of a class do, and nothing where all are hidden."""

    matrice: csr_matrix
    haut: np.ndarray
    bas: np.ndarray
    entier: np.ndarray
    cout: np.ndarray

    def __post_init__(self) -> None:
        self.coo = self.matrice.tocoo()
        self.systeme, self.combien = _composantes(self.matrice, np.arange(self.matrice.shape[1]))
        self.ligne_systeme = self.systeme[self.matrice.indices[self.matrice.indptr[:-1]]]
        self.taille = np.bincount(self.systeme, minlength=self.combien)


def _prouver(etat: _Etat, vue: np.ndarray, en_masquant: bool = False) -> None:
    """Proves what a part of the table proves (``vue``: mask), or hides what it takes for that (``en_masquant``).

    A relation with a single hidden cell gives it away, one with two ties them together. What is left after that is
    mostly relations that share no cell, where a sum tells the reach of each; only the rest goes to the solver.
    """
    p = etat.p
    voulues = etat.a_prouver() & vue[None, :]
    if not voulues.any():
        return
    utiles = np.zeros(int(etat.systeme.max(initial=-1)) + 2, dtype=bool)
    utiles[etat.systeme[voulues.any(axis=0)]] = True
    cellules = np.flatnonzero(vue & utiles[etat.systeme] & ~p.connu & (en_masquant | etat.cache))
    sens, position = np.nonzero(voulues[:, cellules])
    matrice, classe, signe = _reduire(etat.lignes[:, cellules])
    haut, bas = np.full((2, matrice.shape[1]), np.inf)
    entier, cout = np.zeros(matrice.shape[1], dtype=bool), np.zeros(matrice.shape[1])
    plus, moins, libre = (classe >= 0) & (signe > 0), (classe >= 0) & (signe < 0), classe >= 0
    np.minimum.at(bas, classe[plus], p.valeur[cellules[plus]])
    np.minimum.at(haut, classe[moins], p.valeur[cellules[moins]])
    np.logical_or.at(entier, classe[libre], p.entier[cellules[libre]])
    np.add.at(cout, classe[libre], np.where(etat.cache[cellules[libre]], 0.0, p.cout[cellules[libre]]))
    haut, bas = np.where(entier, np.floor(haut + TOLERANCE), haut), np.where(entier, np.floor(bas + TOLERANCE), bas)
    reduit = _Reduit(matrice, haut, bas, entier, cout)
    # What is asked of a cell, asked of its class: turned when they move in opposite ways.
    k = classe[position]
    garde = k >= 0
    sens, position, k = sens[garde], position[garde], k[garde]
    sens_k = np.where(signe[position] > 0, sens, 1 - sens)
    besoin = etat.exige[sens, cellules[position]]
    portee, difficile = _portees(reduit)
    prouve = ~difficile[k] & (portee[sens_k, k] >= besoin * (1 - TOLERANCE)) & (not en_masquant)
    if len(ordre := np.flatnonzero((difficile[k] | en_masquant) & (np.where(sens_k == 0, haut[k], bas[k]) >= besoin))):
        ordre = ordre[np.lexsort((position[ordre], sens[ordre], reduit.systeme[k[ordre]]))]
        prouve[ordre], traverse = _par_solveur(etat, reduit, k[ordre], sens_k[ordre], besoin[ordre])
        etat.cache[cellules[libre][traverse[classe[libre]]]] = True
    etat.prouve[sens[prouve], cellules[position[prouve]]] = True


def _reduire(matrice: csr_matrix) -> tuple[csr_matrix, np.ndarray, np.ndarray]:
    """Does away with relations of one or two cells: (relations between classes, class of each cell, its sign).

    A cell of class −1 cannot move. Two cells of a class move together, the same way when their signs agree.
    """
    from scipy.sparse import coo_matrix, csr_matrix
    from scipy.sparse.csgraph import connected_components

    classe, signe = np.arange(matrice.shape[1]), np.ones(matrice.shape[1])
    while True:
        matrice = csr_matrix(matrice)
        matrice.eliminate_zeros()
        matrice = matrice[np.diff(matrice.indptr) > 0]
        taille, k = np.diff(matrice.indptr), matrice.shape[1]
        fixe = np.zeros(k, dtype=bool)
        fixe[matrice.indices[matrice.indptr[:-1][taille == 1]]] = True
        debut = matrice.indptr[:-1][taille == 2]
        a, b = matrice.indices[debut], matrice.indices[debut + 1]
        ratio = -matrice.data[debut + 1] / matrice.data[debut]
        unitaire = np.abs(np.abs(ratio) - 1) < TOLERANCE
        a, b, memes = a[unitaire], b[unitaire], ratio[unitaire] > 0
        if not fixe.any() and not len(a):
            return matrice, classe, signe
        # Each class stands twice, as itself and turned; an edge says which go together. Joined to its own turn, it is still.
        de = np.concatenate([a, a + k])
        vers = np.concatenate([np.where(memes, b, b + k), np.where(memes, b + k, b)])
        graphe = coo_matrix((np.ones(len(de), dtype=np.int8), (de, vers)), shape=(2 * k, 2 * k))
        _, label = connected_components(graphe, directed=False)
        droit, tourne = label[:k], label[k:]
        groupe, sens = np.minimum(droit, tourne), np.where(droit <= tourne, 1.0, -1.0)
        immobile = np.zeros(2 * k, dtype=bool)
        immobile[groupe[(droit == tourne) | fixe]] = True
        mobile = ~immobile[groupe]
        nouveaux, rang = np.unique(groupe[mobile], return_inverse=True)
        devient = np.full(k, -1)
        devient[mobile] = rang
        matrice = matrice @ csr_matrix((sens[mobile], (np.flatnonzero(mobile), rang)), shape=(k, len(nouveaux)))
        vivante = classe >= 0
        signe[vivante] *= sens[classe[vivante]]
        classe[vivante] = devient[classe[vivante]]


def _portees(reduit: _Reduit) -> tuple[np.ndarray, np.ndarray]:
    """Exact reach of each class (upwards, downwards) whose system is one relation with unit weights, or none at all, and
    whether only a solver can tell."""
    portee = np.vstack([reduit.haut, reduit.bas])
    coo, m = reduit.coo, reduit.matrice.shape[0]
    difficile = np.bincount(reduit.ligne_systeme, minlength=reduit.combien) > 1
    np.logical_or.at(difficile, reduit.systeme[coo.col], np.abs(np.abs(coo.data) - 1) > TOLERANCE)
    simple = ~difficile[reduit.systeme[coo.col]]
    ligne, col, positif = coo.row[simple], coo.col[simple], coo.data[simple] > 0
    # In the direction of the relation's weights: what one class gains, the others must lose.
    haut, bas = reduit.haut[col], reduit.bas[col]
    gain, perte = np.where(positif, haut, bas), np.where(positif, bas, haut)
    for mouvement, contraire, sens in ((gain, perte, 0), (perte, gain, 1)):
        portee[np.where(positif, sens, 1 - sens), col] = np.minimum(mouvement, _autres(ligne, contraire, m))
    return portee, difficile[reduit.systeme]


def _autres(ligne: np.ndarray, portee: np.ndarray, m: int) -> np.ndarray:
    """For each entry of a sparse matrix, the sum of ``portee`` over the other entries of its row (``ligne``)."""
    infini = np.isinf(portee)
    fini = np.where(infini, 0.0, portee)
    infinis = np.bincount(ligne, infini, minlength=m)[ligne] - infini
    return np.where(infinis > 0, np.inf, np.bincount(ligne, fini, minlength=m)[ligne] - fini)


def _par_solveur(
    etat: _Etat, reduit: _Reduit, k: np.ndarray, sens: np.ndarray, besoin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Proves targets (class, direction, need), sorted by system and direction, by linear programming: (True where proved,
    classes that the proofs of shown cells go through).

    One program moves many targets of a system at once, the others being free to give way: one in two at first, then
    fewer when that stalls.
    """
    prouve = np.zeros(len(k), dtype=bool)
    traverse = np.zeros(len(reduit.haut), dtype=bool)
    systeme = reduit.systeme[k]
    ouvert = np.ones(reduit.combien, dtype=bool)
    pas = np.full(reduit.combien, 2)
    for tour in range(PASSES):
        if not len(actives := np.flatnonzero(~prouve & ouvert[systeme])):
            break
        reste = np.bincount(systeme[actives], minlength=reduit.combien)
        s = systeme[actives]
        rang = np.arange(len(actives)) - np.searchsorted(s, s)
        cibles = actives[((rang + tour) % pas[s] == 0) | (rang == 0)]
        # A class goes one way at a time.
        cibles = np.sort(cibles[np.unique(k[cibles], return_index=True)[1]])
        avant = prouve.copy()
        for bloc in _blocs(systeme[cibles], reduit):
            _essayer(etat, reduit, bloc, cibles, k, sens, besoin, prouve, traverse)
        voulu = np.bincount(systeme[cibles], minlength=reduit.combien)
        gagne = np.bincount(systeme[prouve & ~avant], minlength=reduit.combien)
        ouvert &= (gagne > 0) | (pas < reste)
        pas[gagne < 0.5 * voulu] *= 3
    return prouve, traverse


def _blocs(systemes: np.ndarray, reduit: _Reduit) -> list[np.ndarray]:
    """The systems named, in groups that fill one call of the solver."""
    uniques = np.unique(systemes)
    numero = np.cumsum(reduit.taille[uniques]) // BLOC
    return [uniques[numero == n] for n in np.unique(numero)]


def _essayer(etat: _Etat, reduit: _Reduit, bloc: np.ndarray, cibles: np.ndarray, k: np.ndarray, sens: np.ndarray, besoin: np.ndarray,
             prouve: np.ndarray, traverse: np.ndarray) -> None:  # fmt: skip
    """Moves the targets of some systems together; marks in ``prouve`` all that this proves, in ``traverse`` the classes with
    shown cells that the proofs need."""
    from scipy.sparse import csr_matrix, hstack, vstack

    dans = np.isin(reduit.systeme, bloc)
    colonnes = np.flatnonzero(dans)
    lignes = np.flatnonzero(np.isin(reduit.ligne_systeme, bloc))
    mes = cibles[dans[k[cibles]]]
    n, m, q = len(colonnes), len(lignes), len(mes)
    partie, haut, bas, cout = (
        reduit.matrice[lignes][:, colonnes],
        reduit.haut[colonnes],
        reduit.bas[colonnes],
        reduit.cout[colonnes],
    )
    payant = cout > 0
    # A target counts up to its need: t ≤ movement in its direction.
    vers = csr_matrix(
        (np.where(sens[mes] == 0, -1.0, 1.0), (np.arange(q), np.searchsorted(colonnes, k[mes]))), shape=(q, n)
    )
    un = csr_matrix((np.ones(q), (np.arange(q), np.arange(q))), shape=(q, q))
    if payant.any():
        # Movements are paid for, up and down, those of hidden cells very little: enough for the movement to be short, and a
        # short one is rarely fractional.
        aller = np.maximum(cout, CACHEE)
        gain, mouvement, cible = np.concatenate([aller, aller]), [partie, -partie], [vers, -vers]
        bornes = np.zeros(2 * n), np.concatenate([haut, bas])
    else:
        gain, mouvement, cible, bornes = np.zeros(n), [partie], [vers], (-bas, haut)
    enjeu = etat.enjeu if payant.any() else 1.0
    x = _programme(
        np.concatenate([gain, -enjeu / besoin[mes]]), vstack([hstack([*mouvement, csr_matrix((m, q))]), hstack([*cible, un])]),
        np.concatenate([bornes[0], np.zeros(q)]), np.concatenate([bornes[1], besoin[mes]]),
        np.concatenate([np.zeros(m), np.full(q, -np.inf)]), np.zeros(m + q),
    )  # fmt: skip
    etat.appels += 1
    if x is None:
        raise RuntimeError("HiGHS n'a pas trouvé de solution à un programme qui en a toujours une")
    delta = x[:n] - x[n : 2 * n] if payant.any() else x[:n]
    delta = np.where(reduit.entier[colonnes], np.rint(delta), delta)
    delta[np.abs(delta) < TOLERANCE] = 0.0
    delta = np.clip(delta, -bas, haut)
    # What moves falls into pieces that share no relation: each is a movement by itself, and a proof when it holds to the
    # last unit, whatever the others are worth. Turned round, it is another where all bounds allow it.
    morceau, combien = np.full(n, -1), 0
    morceau[np.flatnonzero(delta)], combien = _composantes(partie, np.flatnonzero(delta))
    tient = np.ones(combien + 1, dtype=bool)
    fautives = np.flatnonzero(np.abs(partie @ delta) > TOLERANCE * (1 + abs(partie) @ np.abs(delta)))
    tient[morceau[partie[fautives].indices]] = False
    tourne = tient.copy()
    tourne[morceau[(-delta > haut) | (delta > bas)]] = False
    tient[-1] = tourne[-1] = False
    tous = np.flatnonzero(dans[k])
    tous = tous[~prouve[tous]]
    ici = np.searchsorted(colonnes, k[tous])
    vers_la = delta[ici] * np.where(sens[tous] == 0, 1.0, -1.0)
    assez = besoin[tous] * (1 - TOLERANCE)
    trouve = (tient[morceau[ici]] & (vers_la >= assez)) | (tourne[morceau[ici]] & (-vers_la >= assez))
    prouve[tous[trouve]] = True
    utiles = np.zeros(combien + 1, dtype=bool)
    utiles[morceau[ici[trouve]]] = True
    utiles[-1] = False
    traverse[colonnes[utiles[morceau]]] = True


# --- secondary cells --------------------------------------------------------------------------------------------


def _completer(etat: _Etat) -> None:
    """Gives a companion to each hidden cell that a relation taken alone holds too closely: the cheapest one that is enough.

    In a relation, a cell moves as far as the other hidden ones can give way. A companion that serves other relations costs
    less, one that would be alone in another costs more.
    """
    p = etat.p
    m = etat.lignes.shape[0]
    coo = etat.lignes.tocoo()
    ligne, col, positif = coo.row, coo.col, coo.data > 0
    exige = np.where(etat.impossible, 0.0, etat.exige)
    # How far each cell can take its relation up and down, and is asked to.
    monte, baisse = np.where(positif, np.inf, p.valeur[col]), np.where(positif, p.valeur[col], np.inf)
    veut_monter, veut_baisser = (
        np.where(positif, exige[0, col], exige[1, col]),
        np.where(positif, exige[1, col], exige[0, col]),
    )
    while True:
        libre = (etat.cache & ~p.connu)[col]
        manque = np.zeros((2, m))
        for n, (voulu, contraire) in enumerate(((veut_monter, baisse), (veut_baisser, monte))):
            autres = _autres(ligne, np.where(libre, contraire, 0.0), m)
            defaut = np.where(libre, voulu - autres, 0.0)
            np.maximum.at(manque[n], ligne, np.where(defaut > TOLERANCE * (1 + voulu), defaut, 0.0))
        besoin = manque[:, ligne]
        possible = (
            ~etat.cache[col] & ~p.connu[col] & (besoin.max(axis=0) > 0) & (baisse >= besoin[0]) & (monte >= besoin[1])
        )
        if not possible.any():
            return
        nombre = np.bincount(ligne, libre, minlength=m)
        serre = (manque.max(axis=0) > 0).astype(float)
        seules, vides = (np.bincount(col, v[ligne], minlength=etat.n) for v in (serre, (nombre == 0).astype(float)))
        r, c = ligne[possible], col[possible]
        ordre = np.lexsort((c, p.cout[c] * (1 + vides[c]) / seules[c], r))
        r, c = r[ordre], c[ordre]
        etat.cache[c[np.r_[True, r[1:] != r[:-1]]]] = True


def _chercher(etat: _Etat) -> None:
    """Takes failing (direction, cell) pairs one by one: each is proved, with what must be hidden for it, or given up, until
    the effort is spent.

    The program of least cost looks close to the cell first, then further, then in the whole system; in fractions of units
    first, then in whole ones. The movement that it finds is the proof, and often proves others on the way. One that would
    hide a cell of great cost is kept for want of a better one further away.
    """
    sens, cellules = np.nonzero(etat.a_prouver())
    for s, cellule in sorted(
        zip(sens.tolist(), cellules.tolist(), strict=True), key=lambda e: (-etat.exige[e], e[1], e[0])
    ):
        if etat.prouve[s, cellule] or etat.effort >= EFFORT:
            continue
        meilleur: tuple[float, np.ndarray, np.ndarray] | None = None
        for pas, en_entiers in PORTEES:
            colonnes = _autour(etat, np.array([cellule]), pas)
            if en_entiers and len(colonnes) > ENTIERS:
                continue
            etat.effort += len(colonnes)
            if (trouve := _moindre_cout(etat, colonnes, s, cellule, en_entiers)) is None:
                continue
            prix = float(etat.p.cout[colonnes[(trouve != 0) & ~etat.cache[colonnes]]].sum())
            if meilleur is None or prix < meilleur[0]:
                meilleur = prix, colonnes, trouve
            if prix < CHER:
                break
        if meilleur is None:
            etat.impossible[s, cellule] = True
        else:
            _retenir(etat, *meilleur[1:])


def _autour(etat: _Etat, cellules: np.ndarray, pas: int | None) -> np.ndarray:
    """Unknown or hideable cells within so many relations of some, or all those of their systems."""
    if pas is None:
        return np.flatnonzero(np.isin(etat.systeme, etat.systeme[cellules]) & ~etat.p.connu)
    for _ in range(pas):
        lignes = np.unique(etat.colonnes[:, cellules].indices)
        cellules = np.unique(etat.lignes[lignes].indices)
        cellules = cellules[~etat.p.connu[cellules]]
    return cellules


def _moindre_cout(etat: _Etat, colonnes: np.ndarray, sens: int, cellule: int, en_entiers: bool) -> np.ndarray | None:
    """Movement of ``colonnes``, all else being still, that takes a cell as far as it needs, at the least cost of hiding.

    None when there is none, or none in whole units where counts need them.
    """
    from scipy.sparse import hstack

    p = etat.p
    n = len(colonnes)
    montre, entier = ~etat.cache[colonnes], p.entier[colonnes]
    matrice = etat.colonnes[:, colonnes]
    matrice = matrice[np.unique(matrice.indices)]
    cible, besoin = int(np.searchsorted(colonnes, cellule)), etat.exige[sens, cellule]
    # Up and down movements are paid for, those of hidden cells very little: enough for the movement to be short, and a
    # short one is rarely fractional. The target moves, whatever it takes.
    haut, bas = np.full(n, np.inf), p.valeur[colonnes].copy()
    haut[cible] = besoin if sens == 0 else 0.0
    bas[cible] = 0.0 if sens == 0 else besoin
    cout = np.where(montre, p.cout[colonnes], CACHEE)
    etat.appels += 1
    x = _programme(
        np.concatenate([cout, cout]), hstack([matrice, -matrice], format="csr"),
        np.concatenate([np.where(np.arange(n) == cible, haut, 0.0), np.where(np.arange(n) == cible, bas, 0.0)]),
        np.concatenate([haut, bas]), np.zeros(matrice.shape[0]), np.zeros(matrice.shape[0]),
        np.concatenate([entier, entier]) if en_entiers else None,
    )  # fmt: skip
    if x is None:
        return None
    delta = x[:n] - x[n:]
    delta = np.where(entier, np.rint(delta), delta)
    delta[np.abs(delta) < TOLERANCE] = 0.0
    ecart = np.abs(matrice @ delta) > TOLERANCE * (1 + abs(matrice) @ np.abs(delta))
    return None if ecart.any() or (delta < -p.valeur[colonnes] - TOLERANCE).any() else delta


def _retenir(etat: _Etat, colonnes: np.ndarray, delta: np.ndarray) -> None:
    """Hides the cells that a movement goes through, and marks all that it proves."""
    etat.cache[colonnes[delta != 0]] = True
    for sens, mouvement in ((0, delta), (1, -delta)):
        etat.prouve[sens, colonnes] |= (mouvement > 0) & (mouvement >= etat.exige[sens, colonnes] * (1 - TOLERANCE))


def _fermer(etat: _Etat, cellules: np.ndarray, pas: int | None) -> None:
    """Hides all that stands within so many relations of cells without a proof, and proves what that allows."""
    etat.cache[_autour(etat, cellules, pas)] = True
    etat.impossible[:] = False
    _completer(etat)
    _prouver_tout(etat)
    _prouver(etat, ~etat.p.connu)


# --- solver -----------------------------------------------------------------------------------------------------


def _programme(cout: np.ndarray, matrice: Any, bas: np.ndarray, haut: np.ndarray, lb: np.ndarray, ub: np.ndarray,
               entier: np.ndarray | None = None) -> np.ndarray | None:  # fmt: skip
    """Minimises ``cout`` under ``lb ≤ matrice x ≤ ub`` and bounds, with HiGHS; None when nothing was found.

    A search in whole numbers that reaches its bound of branches gives what it has.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    # Programs in fractions are small and solved from scratch: what presolving takes is more than what it saves.
    options = {"node_limit": NOEUDS, "mip_rel_gap": 0.05, "presolve": entier is not None}
    return milp(
        cout,
        integrality=None if entier is None else entier.astype(int),
        bounds=Bounds(bas, haut),
        constraints=LinearConstraint(matrice, lb, ub),
        options=options,
    ).x


def _composantes(lignes: csr_matrix, colonnes: np.ndarray) -> tuple[np.ndarray, int]:
    """Label of the independent system of each of ``colonnes`` (indices), and how many there are."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    partie = csr_matrix(lignes[:, colonnes] != 0, dtype=np.int8)
    m, n = partie.shape
    coo = partie.tocoo()
    graphe = csr_matrix((np.ones(coo.nnz, dtype=np.int8), (coo.row, m + coo.col)), shape=(m + n, m + n))
    _, labels = connected_components(graphe, directed=False)
    _, labels = np.unique(labels[m:], return_inverse=True)
    return labels, int(labels.max(initial=-1)) + 1


# --- from frames of cells to a system ---------------------------------------------------------------------------

CLE = ("mesure_id", "territoire_niveau", "territoire_code", "periode_debut", "periode_fin")
# A weighted sum is the numerator that a published mean shows: it adds up, and may be negative.
EFFECTIF, MONTANT, PONDEREE = "effectif", "montant", "somme pondérée"
PUBLIE, PRIMAIRE, SECONDAIRE, NON_MONTRE = "publié", "primaire", "secondaire", "non montré"
COMPLEMENT = "complement"  # measure of the cells that nobody shows: denominator minus numerator
RESTE = "hors perimetre"  # and of those that no perimeter holds: nation minus perimeters


@dataclass(frozen=True)
class Regles:
    """Thresholds of R-SEC and protection intervals, declared in ``dbt_project.yml`` (``secret_*``).

    A count stays possible ``marge_effectif`` above and below its value; where zero is nearer than that, or the whole of
    which it is a part, what is missing on that side is asked on the other. An amount that is sensitive stays possible ``marge_montant`` of its value on each side, and
    one that is hidden for another's sake ``marge_montant_secondaire``.
    """

    seuil_effectif: int = 11
    contributeurs_min: int = 3
    part_dominante_max: float = 0.85
    marge_effectif: int = 3
    marge_montant: float = 0.10
    marge_montant_secondaire: float = 0.01

    @classmethod
    def declarees(cls) -> Regles:
        """The rules as the dbt project declares them; raises KeyError when one of them is missing there."""
        import yaml

        from ingestion.declarations import PROJECT

        declared = yaml.safe_load((PROJECT / "dbt_project" / "dbt_project.yml").read_text(encoding="utf-8"))["vars"]
        return cls(**{name: declared[f"secret_{name}"] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Liens:
    """What ties cells together. ``hierarchie``: membre_niveau, membre_code, parent_niveau, parent_code. ``relations``:
    relation_id, mesure_id, coefficient (their weighted sum is zero on each territory and period). ``rapports``: numerateur,
    denominateur (measures of the published ratios). ``inclusions``: partie_id, tout_id (the part never exceeds the whole; where
    they are equal, whoever reads one knows the other)."""

    hierarchie: pl.DataFrame
    relations: pl.DataFrame
    rapports: pl.DataFrame
    inclusions: pl.DataFrame | None = None


def secret(
    cellules: pl.DataFrame, liens: Liens, regles: Regles, anterieures: Sequence[pl.DataFrame] = ()
) -> pl.DataFrame:
    """Status of each cell of a release: published, hidden as sensitive, or hidden for another's sake.

    ``cellules``: ``CLE``, valeur, nature, contributeurs, part_dominante, montree (some public table shows it) and, where
    known, chiffres (how many published figures are lost when it is hidden). ``anterieures``:
    results of this function for the earlier public releases. Returns ``CLE``, valeur, nature, statut, regle, haut, bas
    (protection proved, in the unit of the value), sans_preuve; complements stand in it as cells of their own, not shown.
    Raises ValueError when two cells have one key.
    """
    import polars as pl

    double = cellules.filter(pl.struct(CLE).is_duplicated())
    if double.height:
        raise ValueError(f"cellule en double : {double.select(CLE).row(0)}")
    courantes = _sensibles(
        cellules.select([*CLE, "valeur", "nature", "contributeurs", "part_dominante", "montree"]), liens, regles
    )
    vintages = [courantes, *(a.select(courantes.columns) for a in anterieures)]
    variables = pl.concat([v.with_columns(pl.lit(i).alias("version")) for i, v in enumerate(vintages)]).with_columns(
        (pl.col("statut") == PUBLIE).alias("vue"),
        pl.col("statut").is_in([PRIMAIRE, SECONDAIRE]).alias("cachee"),
    )
    passe = pl.col("version") > 0
    variables = (
        variables.group_by(*CLE, "valeur")
        .agg(
            pl.col("nature").first(),
            (pl.col("vue") & passe).any().alias("connue"),
            (pl.col("cachee") & passe).any().alias("gardee"),
            (pl.col("version") == 0).any().alias("courante"),
            pl.col("statut").filter(~passe).first().alias("statut"),
            # What an earlier release proved of a hidden cell is what is owed to it: its readers know its bounds of then.
            *(
                pl.coalesce(
                    pl.col(n).filter(passe & ~pl.col("vue") & (pl.col("haut") + pl.col("bas") > 0)).max(),
                    pl.col(n).max(),
                )
                for n in ("haut", "bas")
            ),
        )
        .sort(*CLE, "valeur")
        .with_row_index("variable")
    )
    lignes = _relations(vintages, variables, liens)
    chiffres = pl.col("chiffres") if "chiffres" in cellules.columns else pl.lit(1).alias("chiffres")
    perdus = variables.select(CLE).join(
        cellules.select(*CLE, chiffres), on=list(CLE), how="left", maintain_order="left"
    )["chiffres"]
    nature = variables["nature"]
    montant, entier = (nature == MONTANT).to_numpy(), (nature == EFFECTIF).to_numpy()
    echelle = np.where(montant, 1e-3, 1.0)  # amounts in thousands: the solver's tolerances are absolute
    valeur = variables["valeur"].to_numpy()
    statut = variables["statut"]
    montree = ((statut == PUBLIE) & ~variables["gardee"]).fill_null(False).to_numpy()
    connue = variables["connue"].to_numpy()
    niveau = (
        variables["territoire_niveau"].replace_strict(POIDS_NIVEAU, default=1.0, return_dtype=pl.Float64).to_numpy()
    )
    fait = proteger(
        Probleme(
            lignes=lignes, valeur=np.where(nature == PONDEREE, np.inf, valeur * echelle), entier=entier, connu=connue, cache=~montree,
            haut=variables["haut"].to_numpy() * echelle, bas=variables["bas"].to_numpy() * echelle,
            cout=niveau * perdus.fill_null(1).clip(1).to_numpy() * (1 + np.log2(1 + np.abs(valeur) * np.where(montant, 1e-4, 1.0))),
            periode=variables.select(pl.struct("periode_debut", "periode_fin").rank("dense")).to_series().to_numpy(),
            fin=~variables["territoire_niveau"].is_in(["region", "national"]).to_numpy(),
        )
    )  # fmt: skip
    return (
        variables.with_columns(
            pl.Series("cache", fait.cache),
            pl.Series("sans_preuve", fait.sans_preuve),
        )
        .filter("courante")
        .join(courantes.select(*CLE, "regle"), on=list(CLE), how="left")
        .with_columns(
            pl.when((pl.col("statut") == PUBLIE) & pl.col("cache"))
            .then(pl.lit(SECONDAIRE))
            .otherwise(pl.col("statut"))
            .alias("statut")
        )
        .select(*courantes.columns, "sans_preuve")
        .sort(*CLE)
    )


def vide() -> pl.DataFrame:
    """The result of ``secret`` for a release without internal cells."""
    import polars as pl

    return pl.DataFrame(
        schema={
            **dict.fromkeys(CLE[:3], pl.String), **dict.fromkeys(CLE[3:], pl.Date), "valeur": pl.Float64, "nature": pl.String,
            "statut": pl.String, "regle": pl.String, "haut": pl.Float64, "bas": pl.Float64, "sans_preuve": pl.Boolean,
        }
    )  # fmt: skip


# A total serves more readers than a part: hiding it costs more.
POIDS_NIVEAU = {"national": 1000.0, "region": 3.0}


def _sensibles(cellules: pl.DataFrame, liens: Liens, regles: Regles) -> pl.DataFrame:
    """Cells with what each rule says of them, complements added: ``CLE``, valeur, nature, statut, regle, haut, bas."""
    import polars as pl

    effectif = pl.col("nature") == EFFECTIF
    petit = lambda c: (c > 0) & (c < regles.seuil_effectif)  # noqa: E731
    lieu = CLE[1:]
    # A ratio is a share when its numerator never exceeds its denominator: only then has the complement a meaning.
    comptes = cellules.filter(effectif).select(*CLE, "valeur")
    parts = (
        liens.rapports.select("numerateur", "denominateur").unique()
        .join(comptes.rename({"mesure_id": "numerateur", "valeur": "n"}), on="numerateur")
        .join(comptes.rename({"mesure_id": "denominateur", "valeur": "d"}), on=["denominateur", *lieu])
        .filter((pl.col("n") <= pl.col("d")).all().over("numerateur", "denominateur"))
        .with_columns((pl.col("d") - pl.col("n")).alias("c"))
    )  # fmt: skip
    # A part never exceeds its total either; what it leaves there is cells of their own, for which the rules speak.
    totaux = liens.relations.filter(pl.col("coefficient") == -1).select(
        "relation_id", pl.col("mesure_id").alias("denominateur")
    )
    parties = (
        liens.relations.filter(pl.col("coefficient") == 1).select("relation_id", pl.col("mesure_id").alias("numerateur"))
        .join(totaux, on="relation_id").select("numerateur", "denominateur").unique()
        .join(comptes.rename({"mesure_id": "numerateur", "valeur": "n"}), on="numerateur")
        .join(comptes.rename({"mesure_id": "denominateur", "valeur": "d"}), on=["denominateur", *lieu])
    )  # fmt: skip
    vus = (
        pl.concat(
            [
                parts.select("numerateur", *lieu, "c", petit(pl.col("c")).alias("cp"), petit(pl.col("d")).alias("dp")),
                parties.select(
                    "numerateur",
                    *lieu,
                    (pl.col("d") - pl.col("n")).alias("c"),
                    pl.lit(False).alias("cp"),
                    pl.lit(False).alias("dp"),
                ),
            ]
        )
        .group_by(pl.col("numerateur").alias("mesure_id"), *lieu)
        .agg(
            pl.col("c").min().alias("reste"),
            pl.col("cp").any().alias("complement_petit"),
            pl.col("dp").any().alias("denominateur_petit"),
        )
    )
    marge = float(regles.marge_effectif)
    bas_libre = pl.min_horizontal(pl.lit(marge), "valeur")
    haut_borne = pl.min_horizontal(pl.lit(marge), pl.col("reste"))
    borne = pl.col("reste").is_not_null() & ~pl.col("denominateur_petit") & ~petit(pl.col("valeur"))
    regle = (
        pl.when(effectif & petit(pl.col("valeur"))).then(pl.lit("effectif sous le seuil"))
        .when(effectif & pl.col("denominateur_petit")).then(pl.lit("dénominateur sous le seuil"))
        .when(effectif & pl.col("complement_petit")).then(pl.lit("complément sous le seuil"))
        .when((pl.col("nature") == MONTANT) & (pl.col("valeur") > 0) & (pl.col("contributeurs") < regles.contributeurs_min))
        .then(pl.lit("trop peu de contributeurs"))
        .when((pl.col("nature") == MONTANT) & (pl.col("valeur") > 0) & (pl.col("part_dominante") > regles.part_dominante_max))
        .then(pl.lit("un contributeur dominant"))
        .when((pl.col("nature") == PONDEREE) & petit(pl.col("contributeurs"))).then(pl.lit("poids sous le seuil"))
    )  # fmt: skip
    # A mean near zero still has a scale: that of its weight.
    taille = (
        pl.when(pl.col("nature") == PONDEREE)
        .then(pl.max_horizontal(pl.col("valeur").abs(), pl.col("contributeurs")))
        .otherwise("valeur")
    )
    marge_somme = (
        pl.when(pl.col("regle").is_not_null()).then(regles.marge_montant).otherwise(regles.marge_montant_secondaire)
        * taille
    )
    trouvees = (
        cellules.join(vus, on=list(CLE), how="left")
        .with_columns(pl.col("complement_petit", "denominateur_petit").fill_null(False))
        .with_columns(regle.alias("regle"))
        .with_columns(
            pl.when(~effectif).then(marge_somme)
            .when(borne).then(haut_borne).otherwise(2 * marge - bas_libre).alias("haut"),
            pl.when(~effectif).then(marge_somme)
            .when(borne).then(pl.min_horizontal(2 * marge - haut_borne, "valeur")).otherwise(bas_libre).alias("bas"),
        )
        .with_columns(
            pl.when(~pl.col("montree")).then(pl.lit(NON_MONTRE))
            .when(pl.col("regle").is_not_null()).then(pl.lit(PRIMAIRE)).otherwise(pl.lit(PUBLIE)).alias("statut")
        )
    )  # fmt: skip
    complements = parts.select(
        pl.concat_str(pl.lit(f"{COMPLEMENT} "), "numerateur", pl.lit(" / "), "denominateur").alias("mesure_id"), *lieu,
        pl.col("c").alias("valeur"), pl.lit(EFFECTIF).alias("nature"), pl.lit(NON_MONTRE).alias("statut"),
        pl.when(petit(pl.col("c"))).then(pl.lit("complément sous le seuil")).alias("regle"),
        (2 * marge - pl.min_horizontal(pl.lit(marge), "c")).alias("haut"), pl.min_horizontal(pl.lit(marge), "c").alias("bas"),
    )  # fmt: skip
    colonnes = [*CLE, "valeur", "nature", "statut", "regle", "haut", "bas"]
    autres = _inclus(cellules.select(*CLE, "valeur", "nature"), liens, "valeur", "nature").filter(
        pl.col("valeur_tout") - pl.col("valeur") > EGALITE
    )
    autres = (
        autres.join(parts, left_on=["mesure_id", "tout_id", *lieu], right_on=["numerateur", "denominateur", *lieu], how="anti")
        .select(
            pl.concat_str(pl.lit(f"{COMPLEMENT} "), "mesure_id", pl.lit(" / "), "tout_id").alias("mesure_id"), *lieu,
            (pl.col("valeur_tout") - pl.col("valeur")).round(4).alias("valeur"), "nature", pl.lit(NON_MONTRE).alias("statut"),
        )
        .with_columns(pl.when(effectif & petit(pl.col("valeur"))).then(pl.lit("complément sous le seuil")).alias("regle"))
        .with_columns((2 * marge - bas_libre).alias("haut"), bas_libre.alias("bas"))
    )  # fmt: skip
    periode = ["periode_debut", "periode_fin"]
    restes = (
        cellules.filter((pl.col("territoire_niveau") == "perimetre") & pl.col("nature").is_in([EFFECTIF, MONTANT]))
        .group_by("mesure_id", *periode).agg(pl.col("valeur").sum().alias("tenu"))
        .join(cellules.filter(pl.col("territoire_niveau") == "national"), on=["mesure_id", *periode])
        .with_columns((pl.col("valeur") - pl.col("tenu")).round(4).alias("valeur"))
        # Perimeters that overlap tell nothing by subtraction; those that hold everything always are the nation itself.
        .filter((pl.col("valeur") >= 0).all().over("mesure_id") & (pl.col("valeur") > 0).any().over("mesure_id"))
        .with_columns(pl.concat_str(pl.lit(f"{RESTE} "), "mesure_id").alias("mesure_id"), pl.lit(NON_MONTRE).alias("statut"))
        .with_columns(pl.when(effectif & petit(pl.col("valeur"))).then(pl.lit("effectif sous le seuil")).alias("regle"))
        .with_columns((2 * marge - bas_libre).alias("haut"), bas_libre.alias("bas"))
    )  # fmt: skip
    # What nobody shows and no rule protects is only a slack of the system.
    demande = pl.when((pl.col("statut") == NON_MONTRE) & pl.col("regle").is_null()).then(0.0)
    return (
        pl.concat([frame.select(colonnes) for frame in (trouvees, complements, autres, restes)], how="vertical_relaxed")
        .with_columns(demande.otherwise(pl.col("haut")).alias("haut"), demande.otherwise(pl.col("bas")).alias("bas"))
        .sort(*CLE)
    )


def _relations(vintages: Sequence[pl.DataFrame], variables: pl.DataFrame, liens: Liens) -> csr_matrix:
    """Sparse matrix of all relations between the variables, those of each release that the attacker may read."""
    import polars as pl
    from scipy.sparse import coo_matrix

    # A cell that keeps its value from one release to the next is one variable: the attacker may know that nothing changed.
    par_version = [v.join(variables.select(*CLE, "valeur", "variable"), on=[*CLE, "valeur"]) for v in vintages]
    triplets = pl.concat(
        [_triplets(v, liens).with_columns(pl.lit(i).alias("version")) for i, v in enumerate(par_version)]
    )
    if len(vintages) > 1:
        memes = (
            triplets.sort("version", "ligne", "variable")
            .group_by("version", "ligne", maintain_order=True)
            .agg("variable", "poids")
        )
        triplets = memes.unique(["variable", "poids"], keep="first", maintain_order=True).explode("variable", "poids")
    triplets = triplets.with_columns(pl.struct("version", "ligne").rank("dense").sub(1).alias("rang"))
    forme = (int(triplets["rang"].max() or 0) + 1, variables.height)
    return coo_matrix(
        (triplets["poids"].to_numpy().astype(float), (triplets["rang"].to_numpy(), triplets["variable"].to_numpy())),
        shape=forme,
    ).tocsr()


def _triplets(cellules: pl.DataFrame, liens: Liens) -> pl.DataFrame:
    """Relations of one release as (ligne, variable, poids)."""
    import polars as pl

    lieu = list(CLE[1:])
    nues = cellules.select(*CLE, "variable")
    sortie = []

    def ajouter(nom: str, membres: pl.DataFrame, cle: list[str]) -> None:
        sortie.append(
            membres.select(
                pl.concat_str([pl.lit(nom), *cle], separator="|").alias("ligne"),
                "variable",
                pl.col("poids").cast(pl.Float64),
            )
        )

    # Territories: each total is the sum of the level just below it; a nation of regions where the measure has regions.
    hierarchie = _voisins(liens.hierarchie)
    niveaux = nues.select("mesure_id", pl.col("territoire_niveau").alias("present")).unique()
    lies = nues.rename({"territoire_niveau": "membre_niveau", "territoire_code": "membre_code"}).join(
        hierarchie, on=["membre_niveau", "membre_code"]
    )
    lies = lies.join(
        niveaux.filter(pl.col("present") == "region").select("mesure_id", pl.lit(True).alias("a_regions")),
        on="mesure_id",
        how="left",
    ).filter(
        ~(
            (pl.col("membre_niveau") == "departement")
            & (pl.col("parent_niveau") == "national")
            & pl.col("a_regions").fill_null(False)
        )
    )
    cle = ["mesure_id", "parent_niveau", "parent_code", "periode_debut", "periode_fin"]
    parents = nues.rename({"territoire_niveau": "parent_niveau", "territoire_code": "parent_code"})
    lies = lies.join(parents.select(*cle, pl.col("variable").alias("total")), on=cle)
    ajouter(
        "territoire", lies.select(*cle, "membre_niveau", "variable", pl.lit(1).alias("poids")), [*cle, "membre_niveau"]
    )
    ajouter(
        "territoire",
        lies.select(*cle, "membre_niveau", pl.col("total").alias("variable"), pl.lit(-1).alias("poids")).unique(),
        [*cle, "membre_niveau"],
    )
    # Periods: a period that contains others is the sum of the longest of them.
    periodes = nues.select("mesure_id", "periode_debut", "periode_fin").unique()
    dedans = periodes.join(periodes, on="mesure_id", suffix="_tout").filter(
        (pl.col("periode_debut") >= pl.col("periode_debut_tout")) & (pl.col("periode_fin") <= pl.col("periode_fin_tout"))
        & ((pl.col("periode_debut") > pl.col("periode_debut_tout")) | (pl.col("periode_fin") < pl.col("periode_fin_tout")))
    )  # fmt: skip
    entre = dedans.join(
        dedans.rename(
            {
                "periode_debut": "d",
                "periode_fin": "f",
                "periode_debut_tout": "periode_debut",
                "periode_fin_tout": "periode_fin",
            }
        ),
        on=["mesure_id", "periode_debut", "periode_fin"],
    ).select(
        "mesure_id",
        pl.col("d").alias("periode_debut"),
        pl.col("f").alias("periode_fin"),
        "periode_debut_tout",
        "periode_fin_tout",
    )
    dedans = dedans.join(entre, on=entre.columns, how="anti")
    if dedans.height:
        cle = ["mesure_id", "territoire_niveau", "territoire_code", "periode_debut_tout", "periode_fin_tout"]
        ans = nues.join(dedans, on=["mesure_id", "periode_debut", "periode_fin"])
        tout = nues.rename({"periode_debut": "periode_debut_tout", "periode_fin": "periode_fin_tout"})
        ans = ans.join(tout.select(*cle, pl.col("variable").alias("total")), on=cle)
        ajouter("periode", ans.select(*cle, "variable", pl.lit(1).alias("poids")), cle)
        ajouter("periode", ans.select(*cle, pl.col("total").alias("variable"), pl.lit(-1).alias("poids")).unique(), cle)
    # Part-whole relations between measures, and complements.
    if liens.relations.height:
        unis = nues.join(
            liens.relations.select("relation_id", "mesure_id", pl.col("coefficient").alias("poids")), on="mesure_id"
        )
        ajouter("mesure", unis, ["relation_id", *lieu])
    complements = nues.filter(pl.col("mesure_id").str.starts_with(f"{COMPLEMENT} ")).with_columns(
        pl.col("mesure_id").str.strip_prefix(f"{COMPLEMENT} ").str.split_exact(" / ", 1).struct.rename_fields(["numerateur", "denominateur"])
        .alias("rapport")
    ).unnest("rapport")  # fmt: skip
    for colonne, poids in (("numerateur", 1), ("denominateur", -1)):
        autre = complements.select("mesure_id", *lieu, colonne).join(
            nues.rename({"mesure_id": colonne}), on=[colonne, *lieu]
        )
        ajouter("complement", autre.with_columns(pl.lit(poids).alias("poids")), ["mesure_id", *lieu])
    ajouter("complement", complements.with_columns(pl.lit(1).alias("poids")), ["mesure_id", *lieu])
    egales = _inclus(cellules.select(*CLE, "valeur", "variable"), liens, "valeur", "variable")
    egales = egales.filter((pl.col("valeur_tout") - pl.col("valeur")).abs() <= EGALITE)
    for colonne, poids in (("variable", 1), ("variable_tout", -1)):
        ajouter(
            "egalite",
            egales.select(
                "mesure_id", "tout_id", *lieu, pl.col(colonne).alias("variable"), pl.lit(poids).alias("poids")
            ),
            ["mesure_id", "tout_id", *lieu],
        )
    # Perimeters, and what lies out of them, against the nation. Where they overlap, no subtraction holds.
    tenues = nues.filter(pl.col("territoire_niveau") == "perimetre").join(cellules.select(*CLE, "valeur"), on=list(CLE))
    if tenues.height:
        place = ["mesure_id", "periode_debut", "periode_fin"]
        nation = cellules.filter(
            (pl.col("territoire_niveau") == "national") & ~pl.col("mesure_id").str.contains(f"^({RESTE}|{COMPLEMENT}) ")
        )
        sommes = tenues.group_by(place).agg(pl.col("valeur").sum().alias("tenu")).join(nation, on=place)
        sommes = sommes.filter((pl.col("tenu") <= pl.col("valeur") + 1e-4).all().over("mesure_id"))
        reste = nues.filter(pl.col("mesure_id").str.starts_with(f"{RESTE} ")).with_columns(
            pl.col("mesure_id").str.strip_prefix(f"{RESTE} ")
        )
        un = pl.lit(1).alias("poids")
        ajouter("perimetre", tenues.join(sommes.select(place), on=place).select(*place, "variable", un), place)
        ajouter("perimetre", reste.join(sommes.select(place), on=place).select(*place, "variable", un), place)
        ajouter("perimetre", sommes.select(*place, "variable", pl.lit(-1).alias("poids")), place)
    return pl.concat(sortie).sort("ligne", "variable")


def _inclus(cellules: pl.DataFrame, liens: Liens, *valeurs: str) -> pl.DataFrame:
    """Cells of declared parts with ``tout_id``, and ``valeurs`` of their whole beside theirs (``_tout``)."""
    import polars as pl

    inclusions = (
        pl.DataFrame(schema={"partie_id": pl.String, "tout_id": pl.String})
        if liens.inclusions is None
        else liens.inclusions
    )
    return cellules.join(inclusions, left_on="mesure_id", right_on="partie_id").join(
        cellules.select(
            pl.col("mesure_id").alias("tout_id"), *CLE[1:], *(pl.col(v).alias(f"{v}_tout") for v in valeurs)
        ),
        on=["tout_id", *CLE[1:]],
    )


def _voisins(hierarchie: pl.DataFrame) -> pl.DataFrame:
    """The hierarchy with régions as members of the nation, deduced from the départements that both hold."""
    import polars as pl

    deps = hierarchie.filter(pl.col("membre_niveau") == "departement")
    deduit = (
        deps.filter(pl.col("parent_niveau") == "region")
        .join(deps.filter(pl.col("parent_niveau") == "national"), on="membre_code", suffix="_haut")
        .select(
            pl.lit("region").alias("membre_niveau"), pl.col("parent_code").alias("membre_code"),
            pl.col("parent_niveau_haut").alias("parent_niveau"), pl.col("parent_code_haut").alias("parent_code"),
        )
    )  # fmt: skip
    return pl.concat([hierarchie.select(deduit.columns), deduit]).unique()
