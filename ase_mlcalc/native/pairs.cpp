// Neighbour lists: the search in cells, and the selection of what is within the cutoff now.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <new>
#include <vector>

namespace {

// Pairs that may be within the cutoff, by centre: those of atom i are from first[i] to first[i + 1].
struct Pair {
    int32_t j;
    int32_t s[3];
};

struct Candidates {
    std::vector<int64_t> first;
    std::vector<Pair> pairs;
};

inline double dot(const double *a, const double *b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

// By neighbour, then by shift.  Numbers that fit into one word are sorted as such, which takes a third of the time.
class Sorter {
    static constexpr int BITS = 10;
    static constexpr int64_t HALF = int64_t(1) << (BITS - 1);
    std::vector<uint64_t> words_;

  public:
    void sort(std::vector<Pair> &pairs) {
        bool fit = true;
        for (const Pair &pair : pairs)
            for (int a = 0; a < 3; ++a) fit = fit && pair.s[a] >= -HALF && pair.s[a] < HALF;
        if (!fit) {
            std::sort(pairs.begin(), pairs.end(), [](const Pair &a, const Pair &b) {
                return a.j != b.j ? a.j < b.j : std::lexicographical_compare(a.s, a.s + 3, b.s, b.s + 3);
            });
            return;
        }
        words_.resize(pairs.size());
        for (size_t p = 0; p < pairs.size(); ++p) {
            uint64_t word = uint64_t(pairs[p].j);
            for (int a = 0; a < 3; ++a) word = word << BITS | uint64_t(pairs[p].s[a] + HALF);
            words_[p] = word;
        }
        std::sort(words_.begin(), words_.end());
        for (size_t p = 0; p < pairs.size(); ++p) {
            uint64_t word = words_[p];
            for (int a = 2; a >= 0; --a, word >>= BITS)
                pairs[p].s[a] = int32_t(int64_t(word & (2 * HALF - 1)) - HALF);
            pairs[p].j = int32_t(word);
        }
    }
};

// Cells are no wider than the cutoff where the box allows: an atom's neighbours lie in its own and the 26 around it,
// or, in a periodic box thinner than the cutoff, in images of few cells.
// Centres are the first n_centers atoms.
void search(int64_t n_atoms, int64_t n_centers, const double *positions, const double *cell, const double *inverse,
            const uint8_t *pbc, double cutoff, int threads, Candidates &found) {
    double height[3];
    for (int a = 0; a < 3; ++a) {
        const double column[3] = {inverse[a], inverse[3 + a], inverse[6 + a]};
        height[a] = 1 / std::sqrt(dot(column, column));
    }
    const int64_t enough = std::max<int64_t>(1, int64_t(std::cbrt(double(n_atoms))) + 1);  // no more cells than atoms
    int64_t count[3], reach[3];
    for (int a = 0; a < 3; ++a) {
        count[a] = std::clamp<int64_t>(int64_t(height[a] / cutoff), 1, 4 * enough);
        reach[a] = int64_t(std::ceil(cutoff / (height[a] / double(count[a])) - 1e-12));
    }
    const int64_t n_cells = count[0] * count[1] * count[2];
    std::vector<int64_t> home(3 * n_atoms), of_atom(n_atoms), first(n_cells + 1, 0), members(n_atoms);
    std::vector<int32_t> wraps(3 * n_atoms);
    for (int64_t i = 0; i < n_atoms; ++i) {
        for (int a = 0; a < 3; ++a) {
            double f = 0;
            for (int b = 0; b < 3; ++b) f += positions[3 * i + b] * inverse[3 * b + a];
            const double whole = pbc[a] ? std::floor(f) : 0.0;
            wraps[3 * i + a] = int32_t(whole);  // fits: farther atoms have been refused
            home[3 * i + a] = std::clamp<int64_t>(int64_t((f - whole) * double(count[a])), 0, count[a] - 1);
        }
        of_atom[i] = (home[3 * i] * count[1] + home[3 * i + 1]) * count[2] + home[3 * i + 2];
        ++first[of_atom[i] + 1];
    }
    for (int64_t k = 0; k < n_cells; ++k) first[k + 1] += first[k];
    {
        std::vector<int64_t> next(first.begin(), first.end() - 1);
        for (int64_t i = 0; i < n_atoms; ++i) members[next[of_atom[i]]++] = i;
    }
    // positions in the order of cells, so that the innermost loop reads them one after the other
    std::vector<double> wrapped(3 * n_atoms);
    for (int64_t m = 0; m < n_atoms; ++m) {
        const int64_t i = members[m];
        for (int b = 0; b < 3; ++b) {
            double value = positions[3 * i + b];
            for (int a = 0; a < 3; ++a) value -= wraps[3 * i + a] * cell[3 * a + b];
            wrapped[3 * m + b] = value;
        }
    }
    std::vector<int64_t> place(n_atoms);
    for (int64_t m = 0; m < n_atoms; ++m) place[members[m]] = m;

    const double square = cutoff * cutoff;
    found.first.assign(n_centers + 1, 0);
    const int64_t share = (n_centers + threads - 1) / threads;
    std::vector<std::vector<Pair>> parts(threads);
    std::atomic<bool> failed{false};
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int part = 0; part < threads; ++part) try {
            std::vector<Pair> mine;
            Sorter sorter;
            for (int64_t i = part * share; i < std::min(n_centers, (part + 1) * share); ++i) {
                mine.clear();
                const double *here = wrapped.data() + 3 * place[i];
                for (int64_t x = home[3 * i] - reach[0]; x <= home[3 * i] + reach[0]; ++x)
                    for (int64_t y = home[3 * i + 1] - reach[1]; y <= home[3 * i + 1] + reach[1]; ++y)
                        for (int64_t z = home[3 * i + 2] - reach[2]; z <= home[3 * i + 2] + reach[2]; ++z) {
                            const int64_t cells[3] = {x, y, z};
                            int64_t in[3], shift[3];
                            bool there = true;
                            for (int a = 0; a < 3; ++a) {
                                shift[a] = cells[a] >= 0 ? cells[a] / count[a] : -((count[a] - 1 - cells[a]) / count[a]);
                                in[a] = cells[a] - shift[a] * count[a];
                                there = there && (pbc[a] || shift[a] == 0);
                            }
                            if (!there) continue;
                            double offset[3];
                            for (int b = 0; b < 3; ++b)
                                offset[b] = double(shift[0]) * cell[b] + double(shift[1]) * cell[3 + b] +
                                            double(shift[2]) * cell[6 + b] - here[b];
                            const int64_t k = (in[0] * count[1] + in[1]) * count[2] + in[2];
                            const bool own = shift[0] == 0 && shift[1] == 0 && shift[2] == 0;
                            for (int64_t m = first[k]; m < first[k + 1]; ++m) {
                                const double r[3] = {wrapped[3 * m] + offset[0], wrapped[3 * m + 1] + offset[1],
                                                     wrapped[3 * m + 2] + offset[2]};
                                if (dot(r, r) >= square) continue;
                                const int64_t j = members[m];
                                if (own && j == i) continue;
                                Pair pair{int32_t(j), {}};
                                for (int a = 0; a < 3; ++a)
                                    pair.s[a] = int32_t(shift[a]) - wraps[3 * j + a] + wraps[3 * i + a];
                                mine.push_back(pair);
                            }
                        }
                sorter.sort(mine);
                found.first[i + 1] = int64_t(mine.size());
                parts[part].insert(parts[part].end(), mine.begin(), mine.end());
            }
        } catch (const std::bad_alloc &) {
            failed = true;
        }
    if (failed) throw std::bad_alloc();
    for (int64_t i = 0; i < n_centers; ++i) found.first[i + 1] += found.first[i];
    found.pairs.reserve(found.first[n_centers]);
    for (auto &part : parts) {
        found.pairs.insert(found.pairs.end(), part.begin(), part.end());
        std::vector<Pair>().swap(part);
    }
}

}  // namespace

extern "C" {

// All directed pairs closer than the cutoff whose centres are among the first n_centers atoms: a handle, or null
// without memory.  cell: rows are vectors; inverse: its inverse; pbc: one byte a direction.
void *pairs_search(int64_t n_atoms, int64_t n_centers, const double *positions, const double *cell,
                   const double *inverse, const uint8_t *pbc, double cutoff, int threads) {
    Candidates *found = nullptr;
    try {
        found = new Candidates;
        search(n_atoms, n_centers, positions, cell, inverse, pbc, cutoff, threads, *found);
        return found;
    } catch (const std::bad_alloc &) {
        delete found;
        return nullptr;
    }
}

void pairs_forget(void *handle) { delete static_cast<Candidates *>(handle); }

int64_t pairs_count(const void *handle) { return int64_t(static_cast<const Candidates *>(handle)->pairs.size()); }

// Those within the cutoff now, with their vectors; returns how many, and which of them is the shortest (-1: none).
// crossed, or null: whole cells by which atoms were moved since the search.  shifts_out may be null.
int64_t pairs_within(const void *handle, const double *positions, const double *cell, double cutoff,
                     const int64_t *crossed, int64_t *centers_out, int64_t *neighbors_out, int64_t *shifts_out,
                     double *vectors_out, int64_t *shortest) {
    const Candidates &candidates = *static_cast<const Candidates *>(handle);
    const double square = cutoff * cutoff;
    double least = square;
    const int64_t n_centers = int64_t(candidates.first.size()) - 1;
    int64_t n = 0;
    *shortest = -1;
    for (int64_t i = 0; i < n_centers; ++i) {
        const double *here = positions + 3 * i;
        for (int64_t p = candidates.first[i]; p < candidates.first[i + 1]; ++p) {
            const Pair &pair = candidates.pairs[p];
            const int64_t j = pair.j;
            int64_t s[3] = {pair.s[0], pair.s[1], pair.s[2]};
            if (crossed)
                for (int a = 0; a < 3; ++a) s[a] += crossed[3 * i + a] - crossed[3 * j + a];
            double r[3];
            // the same operations in the same order as in numpy: r_j - r_i, then the shift
            for (int b = 0; b < 3; ++b) r[b] = positions[3 * j + b] - here[b];
            if (s[0] | s[1] | s[2])
                for (int b = 0; b < 3; ++b)
                    r[b] += double(s[0]) * cell[b] + double(s[1]) * cell[3 + b] + double(s[2]) * cell[6 + b];
            centers_out[n] = i;  // overwritten by the next one if this one is too far away: no branch to mispredict
            neighbors_out[n] = j;
            for (int b = 0; b < 3; ++b) vectors_out[3 * n + b] = r[b];
            if (shifts_out)
                for (int b = 0; b < 3; ++b) shifts_out[3 * n + b] = s[b];
            const double distance = dot(r, r);
            if (distance < least) {
                least = distance;
                *shortest = n;
            }
            n += distance < square;
        }
    }
    return n;
}
}
