"""Upload, edit, reorder, hide and delete the pictures of projects."""

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm

from my_flask_webpage import media
from my_flask_webpage.extensions import db
from my_flask_webpage.internal.forms import ImageForm, ProjectForm, UploadForm
from my_flask_webpage.internal.projects import stored_values
from my_flask_webpage.internal.rows import move, remove_unused_files, render_form
from my_flask_webpage.models import Image, Project

blueprint = Blueprint("images", __name__)


@blueprint.post("/projects/<id:project_id>/images")
def add(project_id: int) -> ResponseReturnValue:
    """Add an uploaded picture to a project's gallery."""
    project = db.get_or_404(Project, project_id)
    upload = UploadForm()
    if upload.validate():
        try:
            picture = media.store(upload.file.data.read(), media.root())
        except media.PictureError as error:
            upload.file.errors = [str(error)]
        else:
            image = append(project, picture, upload)
            flash("The picture is on the site.")
            anchor = f"image-{image.id}"
            address = url_for("internal.projects.edit", project_id=project_id, _anchor=anchor)
            return redirect(address, code=303)
    # The request contains the upload only; the project's form on the same page shows stored values.
    form = ProjectForm(formdata=None, data=stored_values(project))
    page = render_template("internal/project.html", form=form, project=project, upload=upload)
    return page, 400


@blueprint.route("/images/<id:image_id>", methods=["GET", "POST"])
def edit(image_id: int) -> ResponseReturnValue:
    """Edit the texts of a picture."""
    image = db.get_or_404(Image, image_id)
    form = ImageForm(obj=image)
    if form.validate_on_submit():
        form.populate_obj(image)
        image.edited = True
        db.session.commit()
        flash("The changes are on the site.")
        return redirect(gallery_of(image), code=303)
    return render_form("internal/image.html", form, image=image)


@blueprint.route("/images/<id:image_id>/delete", methods=["GET", "POST"])
def delete(image_id: int) -> ResponseReturnValue:
    """Ask for confirmation, then hide or delete a picture."""
    image = db.get_or_404(Image, image_id)
    back = gallery_of(image)
    form = FlaskForm()
    if form.validate_on_submit():
        if image.from_file:
            image.hidden = image.edited = True
        else:
            db.session.delete(image)
        db.session.commit()
        remove_unused_files([image.digest])
        flash("The picture is off the site.")
        return redirect(back, code=303)
    return render_form("internal/delete.html", form, name=image.alt, row=image, back=back)


@blueprint.post("/images/<id:image_id>/show")
def show(image_id: int) -> ResponseReturnValue:
    """Show a hidden picture again."""
    image = db.get_or_404(Image, image_id)
    image.hidden, image.edited = False, True
    db.session.commit()
    flash("The picture is on the site again.")
    return redirect(gallery_of(image), code=303)


@blueprint.post("/images/<id:image_id>/move")
def change_order(image_id: int) -> ResponseReturnValue:
    """Move a picture up or down by one; lists show the first picture of a project."""
    image = db.get_or_404(Image, image_id)
    move(image.project.gallery, image)
    return redirect(gallery_of(image), code=303)


def append(project: Project, picture: media.Picture, form: UploadForm) -> Image:
    """Add a stored picture to the end of a project's gallery."""
    image = Image(
        project=project,
        digest=picture.digest,
        width=picture.width,
        height=picture.height,
        widths=picture.widths,
        alt=form.alt.data,
        caption=form.caption.data,
        credit=form.credit.data,
        edited=True,
        moved=True,
        position=max((image.position for image in project.images), default=0) + 1,
    )
    db.session.add(image)
    db.session.commit()
    return image


def gallery_of(image: Image) -> str:
    """Return the URL of the gallery in the internal area that contains a picture."""
    return url_for("internal.projects.edit", project_id=image.project_id, _anchor="gallery")
