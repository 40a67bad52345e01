import marimo
app = marimo.App()
@app.cell
def _():
    from notebooks.kit.release import open_release
    return (open_release,)
@app.cell
def _(open_release):
    release = open_release()
    return (release,)
@app.cell
def _(release):
    feuille = release.page("x")
    return (feuille,)
